/*
 * The form of the batch page: its texts stand in one table, files are taken as people mean them, and the upload is
 * measured.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { checkFiles, isSystemFile, typeNames, withAdded } from "../../frontend/page/file-picker.js";
import { choiceText, hintOf, plainText } from "../../frontend/page/option-fields.js";
import { UploadMeter } from "../../frontend/page/upload-meter.js";
import { encodeName } from "../../frontend/page/upload.js";
import { english } from "../../frontend/view/locale/en.js";

const html = readFileSync(new URL("../../frontend/index.html", import.meta.url), "utf8");

test("every text of the page stands in the table of texts", () => {
  const keys = [...html.matchAll(/data-words="(\w+)"/g)].map(([, key]) => key);
  assert.ok(keys.length > 10);
  for (const key of keys) assert.equal(typeof english[key], "string", key);
  const [, body] = /<body>(.*)<\/body>/s.exec(html);
  const text = body
    .replace(/<!--.*?-->|<noscript\s*>.*?<\/noscript\s*>/gs, "")
    .replace(/<[^>]*>/g, "")
    .trim();
  assert.equal(text, "unstuck", "but for the name of the product");
});

test("types of files are named by their extensions, or by what people call them", () => {
  assert.equal(typeNames(".csv,.tsv,text/csv"), ".csv, .tsv");
  assert.equal(typeNames("image/png, image/webp"), "PNG, WEBP");
  assert.equal(typeNames("audio/*"), "");
  assert.equal(typeNames("image/bmp,image/gif,image/jpeg,image/png,image/svg+xml"), "BMP, GIF, JPEG, PNG, …");
  assert.equal(typeNames("application/pdf,application/vnd.ms-excel,application/x-tar"), "PDF, EXCEL, TAR");
});

/** @returns {any} */
const chosen = (name, text = "", lastModified = 1) => {
  const file = new File([text], name.split("/").pop() ?? "", { lastModified });
  return { file, name, size: file.size };
};
const names = (files) => files.map(({ name }) => name);

test("a warning about the type of files names it as people do", () => {
  const limits = { max_files: 9, max_file_bytes: 9, max_job_bytes: 9, max_name_length: 99, item_errors_shown: 1 };
  const file = { file: { name: "a.xyz", type: "application/x" }, name: "a.xyz", size: 1 };
  const warning = (accept) =>
    checkFiles(/** @type {any} */ ([file]), /** @type {any} */ ({ accept }), limits).warnings[0];
  assert.equal(warning("image/jpeg,image/png"), "1 file may not be a picture (JPEG, PNG). You can start anyway.");
  assert.equal(warning("audio/*"), "1 file may not be a sound file. You can start anyway.");
  assert.equal(warning(".csv,text/csv"), "1 file may not be of the right type (.csv). You can start anyway.");
});

test("two files of one name both stay, and the same file chosen twice is one", async () => {
  const first = await withAdded(
    [],
    [chosen("a.csv", "one"), chosen("photos/b.tar.gz", "one"), chosen(".env", "x")],
  );
  const both = await withAdded(first, [
    chosen("a.csv", "two"),
    chosen("photos/b.tar.gz", "more"),
    chosen(".env", "y"),
  ]);
  const all = ["a.csv", "a (2).csv", ".env", ".env (2)", "photos/b.tar.gz", "photos/b.tar (2).gz"];
  assert.deepEqual(names(both).sort(), all.sort());
  const again = await withAdded(both, [chosen("a.csv", "two"), chosen("a.csv", "one"), chosen("a.csv", "two", 2)]);
  assert.deepEqual(
    names(again).filter((name) => name.startsWith("a")),
    ["a (2).csv", "a (3).csv", "a.csv"],
  );
  assert.equal(await again.find(({ name }) => name === "a.csv")?.file.text(), "one");
});

test("files stand in natural order, and system files are known", async () => {
  const files = await withAdded(
    [],
    ["d/f10", "d/f9", "d/f1", "B", "a"].map((name) => chosen(name, name)),
  );
  assert.deepEqual(names(files), ["a", "B", "d/f1", "d/f9", "d/f10"]);
  const system = [".DS_Store", "d/Thumbs.db", "DESKTOP.INI", "d/._a.csv", "~$report.docx", "__MACOSX/a.csv"];
  assert.deepEqual(
    system.filter((name) => !isSystemFile(name)),
    [],
  );
  assert.deepEqual(["a.csv", ".env", "thumbs.db.csv", "d/a~$b", "_.x"].filter(isSystemFile), []);
});

test("an upload is measured over the last seconds", () => {
  const meter = new UploadMeter();
  meter.add(0, 0);
  meter.add(500, 9_000);
  assert.deepEqual([meter.rate, meter.left_s(10_000)], [null, null], "too early");
  for (let second = 1; second <= 20; second++) meter.add(second * 1_000, second * 1_000);
  assert.deepEqual([meter.rate, meter.left_s(30_000)], [1_000, 10]);
  for (let second = 21; second <= 40; second++) meter.add(second * 1_000, 20_000);
  assert.deepEqual([meter.rate, meter.left_s(30_000)], [0, null], "nothing is sent any more");
});

test("options are explained in plain words, and once", () => {
  assert.equal(plainText("at most `width` pixels, not ``None``"), "at most width pixels, not None");
  const number = { type: "number", minimum: 0, maximum: 1 };
  assert.equal(hintOf({ ...number, description: "Share of `items`" }), "Share of items. 0 to 1.");
  assert.equal(hintOf({ ...number, description: "Share, from 0.0 to 1" }), "Share, from 0.0 to 1.");
  assert.equal(hintOf({ ...number, maximum: 10_000, description: "0 or 1" }), "0 or 1. 0 to 10,000.");
  assert.deepEqual(
    [",", "jpeg", "other", 2].map((one) => choiceText(one)),
    ["Comma ( , )", "JPEG", "other", "2"],
  );
});

test("a name that a form would change is percent-encoded so that it arrives as it is", () => {
  for (const name of ['a"b\r\n\\c.csv', "a%22b %0A ä.csv", "100%.csv"]) {
    assert.ok(!/["\\\r\n]/.test(encodeName(name)));
    assert.equal(decodeURIComponent(encodeName(name)), name);
  }
});
