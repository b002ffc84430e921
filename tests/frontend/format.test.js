/*
 * Tests how texts, numbers, sizes, names and items are formatted.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { byteSize, duration, etaText, harmless, rateText } from "../../frontend/view/format.js";
import { itemLine } from "../../frontend/view/item-line.js";
import { english } from "../../frontend/view/locale/en.js";
import { resultLevel } from "../../frontend/view/result.js";
import { ITEM } from "./item.js";

test("names are made harmless: invisible characters are escaped, and markup is text", () => {
  const cases = [
    ["a\nevent: done\r\tb", "a\\nevent: done\\r\\tb"],
    ["evil\u202Egpj.exe", "evil\\u202Egpj.exe"],
    ["\u2066a\u2069\u200E\u200F\u061C", "\\u2066a\\u2069\\u200E\\u200F\\u061C"],
    ["\u2028\u2029\u0085\u0000\u001B[31m\u007F", "\\u2028\\u2029\\u0085\\u0000\\u001B[31m\\u007F"],
    ["half \uD83D pair", "half \\uD83D pair"],
    ["<img src=x onerror=alert(1)>.png", "<img src=x onerror=alert(1)>.png"],
    ["日本語 👩‍👩‍👧 עברית.txt", "日本語 👩‍👩‍👧 עברית.txt"],
  ];
  for (const [name, expected] of cases) assert.equal(harmless(name), expected);
});

test("long names are shortened in the middle and keep their end", () => {
  const short = harmless(`${"x".repeat(500)}.final.csv`, 40);
  assert.deepEqual([[...short].length, short.endsWith(".final.csv"), short.includes("…")], [40, true, true]);
  assert.ok(
    !/[\ud800-\udfff]/.test(harmless("👍".repeat(50), 20).replaceAll("👍", "")),
    "no character is cut in half",
  );
});

test("times, rates and sizes are as precise as is useful", () => {
  const times = /** @type {[number, string][]} */ ([
    [0.4, "0 s"],
    [59.6, "1 min"],
    [80, "1 min 20 s"],
    [754, "13 min"],
    [3_600, "1 h"],
    [11_100, "3 h 5 min"],
    [400_000, "5 days"],
  ]);
  for (const [seconds, expected] of times) assert.equal(duration(seconds, english), expected);
  for (const [rate, expected] of /** @type {[number, string][]} */ ([
    [2.14, "2.1 files/s"],
    [1, "1 file/s"],
    [0.2, "12 files/min"],
    [1234.5, "1,230 files/s"],
  ]))
    assert.equal(rateText(rate, english), expected);
  for (const [bytes, expected] of /** @type {[number, string][]} */ ([
    [0, "0 bytes"],
    [1, "1 byte"],
    [999, "999 bytes"],
    [1_000, "1 kB"],
    [3_400_000, "3.4 MB"],
    [2_147_483_648, "2.1 GB"],
  ]))
    assert.equal(byteSize(bytes, english).replace(/\s/g, " "), expected);
});

test("a forecast is no more precise than it can be", () => {
  for (const [seconds, expected] of /** @type {[number, string][]} */ ([
    [0.2, "1 s left"],
    [59, "59 s left"],
    [59.6, "about 1 min left"],
    [242, "about 4 min left"],
    [590, "about 10 min left"],
    [754, "about 15 min left"],
    [3_700, "about 1 h left"],
    [11_100, "about 3 h 5 min left"],
    [400_000, "about 5 days left"],
    [31 * 86_400, ""],
    [1e300, ""],
    [Infinity, ""],
    [NaN, ""],
  ]))
    assert.equal(etaText(seconds, english), expected);
});

test("small results fit on a line", () => {
  const line = itemLine({
    ...ITEM,
    name: "a.csv",
    state: "succeeded",
    result: { rows: 1000, ok: true, columns: [{}, {}] },
  });
  assert.equal(line.message, "rows: 1,000 · ok: true · columns: 2 entries");
  assert.equal(itemLine({ ...ITEM, name: "b", state: "failed" }).message, "no reason given");
});

test("an error is shown whole, with its line breaks, and folded if it is long", () => {
  const error = (/** @type {string} */ message) => ({
    ...ITEM,
    name: "a.csv",
    state: "failed",
    error: { code: "exception", message, transient: false },
  });
  const long = `extra operand ‘<’\nTry 'tr --help'\n\tfor more.\n${"x".repeat(2_400)}`;
  assert.deepEqual([itemLine(error(long)).message, itemLine(error(long)).folded], [long, true]);
  assert.equal(itemLine(error("a\r\nb\rc\n\n")).message, "a\nb\nc");
  assert.equal(itemLine(error("evil\u202Egpj\u001b[31m\nnext")).message, "evil\\u202Egpj\\u001B[31m\nnext");
  assert.deepEqual(
    ["short", "1\n2\n3\n4", "1\n2\n3\n4\n5"].map((text) => itemLine(error(text)).folded),
    [false, false, true],
  );
});

test("a profile of a table is shown as a table, with the values as they are", () => {
  const columns = [
    { name: "id", type: "integer", nulls: 0, min: 1, max: 2026, mean: 3.3333333333333335 },
    { name: "when", type: "date", nulls: 2, min: "2026-01-01", max: "2026-12-31", mean: null },
  ];
  const item = { ...ITEM, name: "a.csv", state: "succeeded", result: { rows: 50, columns } };
  assert.equal(itemLine(item).result, item.result);
  const level = resultLevel(columns, english);
  assert.equal(level.shape, "table");
  assert.ok(level.shape === "table");
  assert.deepEqual(level.columns, ["name", "type", "nulls", "min", "max", "mean"]);
  assert.deepEqual(
    level.rows.map((row) => row.map((cell) => cell.text)),
    [
      ["id", "integer", "0", "1", "2026", "3.3333333333333335"],
      ["when", "date", "2", "2026-01-01", "2026-12-31", "–"],
    ],
  );
  assert.equal(level.rows[0]?.[4]?.numeric, true);
  const named = resultLevel({ id: { type: "integer" }, when: { nulls: 2 } }, english);
  assert.ok(named.shape === "table");
  assert.deepEqual(named.columns, ["", "type", "nulls"]);
  assert.deepEqual(
    named.rows.map((row) => row.map((cell) => cell.text)),
    [
      ["id", "integer", ""],
      ["when", "", "2"],
    ],
  );
});

test("any JSON is described level by level, bounded and made harmless", () => {
  const shape = (/** @type {unknown} */ value) => resultLevel(value, english).shape;
  assert.deepEqual([null, 1, "a", true, [], {}, [1], { a: 1 }, [[1]], [{ a: [1] }]].map(shape), [
    "text",
    "text",
    "text",
    "text",
    "text",
    "text",
    "list",
    "list",
    "list",
    "list",
  ]);
  /** @type {unknown} */ let deep = 1;
  for (let level = 0; level < 100; level++) deep = level % 2 ? { a: deep } : [deep];
  for (let level = 0; level < 100; level++) {
    const shown = resultLevel(deep, english);
    assert.ok(shown.shape === "list");
    deep = shown.entries[0]?.value;
  }
  assert.deepEqual(resultLevel(deep, english), { shape: "text", text: "1" });
  const many = resultLevel(Array(5_000).fill("x"), english);
  assert.ok(many.shape === "list");
  assert.deepEqual([many.entries.length, many.more], [200, "4,800 more entries are not shown."]);
  const rows = resultLevel(Array(5_000).fill({ a: 1 }), english);
  assert.ok(rows.shape === "table");
  assert.equal(rows.rows.length, 200);
  const wide = Object.fromEntries(Array.from({ length: 40 }, (_, place) => [`c${place}`, place]));
  assert.equal(shape([wide]), "list", "a table of 40 columns cannot be read");
  const evil = resultLevel([{ "a\u202Eb": "c\u202Ed\ne" }], english);
  assert.doesNotMatch(JSON.stringify(evil), /\u202E/);
  for (const [result, message, details] of [
    ["a text", "a text", false],
    [12_345, "12,345", false],
    [false, "false", false],
    [[1, 2], "2 entries", true],
    ["x".repeat(400), null, true],
  ]) {
    const line = itemLine(/** @type {any} */ ({ ...ITEM, name: "a", state: "succeeded", result }));
    assert.deepEqual([message === null || line.message === message, line.result !== null], [true, details]);
  }
  const plain = { ...ITEM, name: "a", state: "succeeded", result: { sha256: "ab", size: 3 } };
  assert.equal(itemLine(plain).result, null, "the line says it all");
  assert.notEqual(itemLine({ ...plain, result: { text: "x".repeat(400) } }).result, null);
});

test("any JSON value is a result", () => {
  const shown = (/** @type {unknown} */ result) =>
    itemLine({ ...ITEM, name: "a", state: "succeeded", message: "words", result }).message;
  assert.deepEqual([5, 0, 12345.5, "text", true, false, [1, { a: 2 }, null], {}, null, undefined].map(shown), [
    "5",
    "0",
    "12,345.5",
    "text",
    "true",
    "false",
    "3 entries",
    "words",
    "words",
    "words",
  ]);
});

test("the code knows every placeholder in the table", () => {
  const known = new Set(
    `kind processed total rate duration n m count attempt max name succeeded failed skipped message state status id from to
    reason percent size date types value minimum maximum sent text time what worker names more stops title
    place unit units`.split(/\s+/),
  );
  for (const [key, entry] of Object.entries(english))
    for (const text of typeof entry === "string" ? [entry] : Object.values(entry))
      for (const [, name] of text.matchAll(/\{(\w+)\}/g)) assert.ok(known.has(name), `${key}: {${name}}`);
});
