/*
 * The texts of the batch page: they stand in one table, and the types of files are named for people.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { typeNames } from "../../frontend/page/file-picker.js";
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
  assert.equal(typeNames("audio/*"), "AUDIO");
});

test("a name that a form would change is percent-encoded so that it arrives as it is", () => {
  for (const name of ['a"b\r\n\\c.csv', "a%22b %0A ä.csv", "100%.csv"]) {
    assert.ok(!/["\\\r\n]/.test(encodeName(name)));
    assert.equal(decodeURIComponent(encodeName(name)), name);
  }
});
