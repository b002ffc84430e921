/*
 * Describes an item's result (any JSON) for people: all of it in one line, or one level at a time as a text, a table
 * or a list of entries. A caller describes a level when it is opened, so a deep result costs only what is looked at.
 * It must not know the DOM or the item.
 * See also: item-line.js, which needs the line; ../element/item-row.js, which draws the levels.
 */
import { harmless, harmlessLines, number, say } from "./format.js";

/** @import { Words } from "../wire" */

/** @typedef {{name: string, value: unknown}} ResultEntry */
/**
 * @typedef {{shape: "text", text: string} |
 *   {shape: "table", columns: string[], rows: {text: string, numeric: boolean}[][], more: string} |
 *   {shape: "list", entries: ResultEntry[], more: string}} ResultLevel
 */

const LINE_LENGTH = 160;
const NAME_LENGTH = 120;
const MAX_ROWS = 200;
const MAX_COLUMNS = 12;

/** Describe a result in one line: plain values as they are, lists and objects within by their size.
 * @param {unknown} result @param {Words} words */
export function resultLine(result, words) {
  return harmless(parts(result, words).join(" · "), LINE_LENGTH);
}

/** Return whether the result has more than its line says. @param {unknown} result @param {Words} words */
export function hasDetails(result, words) {
  const nested = isNested(result) && (Array.isArray(result) || Object.values(result).some((one) => isNested(one)));
  return nested || parts(result, words).join(" · ").length > LINE_LENGTH;
}

/** @param {unknown} result @param {Words} words @returns {string[]} */
function parts(result, words) {
  if (result === null || result === undefined) return [];
  if (typeof result !== "object" || Array.isArray(result)) return [shortText(result, words)];
  return Object.entries(result).map(([key, value]) => `${key}: ${shortText(value, words)}`);
}

/** @param {unknown} value @param {Words} words */
function shortText(value, words) {
  if (value !== null && typeof value === "object") return sizeText(value, words);
  return typeof value === "number" ? number(value, words) : String(value);
}

/** Return whether the value has levels below it. @param {unknown} value @returns {value is object} */
export function isNested(value) {
  return value !== null && typeof value === "object" && Object.keys(value).length > 0;
}

/** Return how many entries a list or an object has. @param {object} value @param {Words} words */
export function sizeText(value, words) {
  return say(words, "result_entries", { count: Object.keys(value).length });
}

/** Describe one level of a value. @param {unknown} value @param {Words} words @returns {ResultLevel} */
export function resultLevel(value, words) {
  if (!isNested(value)) return { shape: "text", text: valueText(value) };
  const entries = Object.entries(value);
  const more = entries.length > MAX_ROWS ? say(words, "result_more", { count: entries.length - MAX_ROWS }) : "";
  const shown = entries.slice(0, MAX_ROWS);
  const columns = columnsOf(entries.map(([, row]) => row));
  if (columns.length > 0) return { shape: "table", ...tableOf(shown, columns, !Array.isArray(value)), more };
  const names = shown.map(([key, one]) => ({
    name: Array.isArray(value) ? `${Number(key) + 1}` : key,
    value: one,
  }));
  return {
    shape: "list",
    entries: names.map(({ name, value: one }) => ({ name: harmless(name, NAME_LENGTH), value: one })),
    more,
  };
}

/** Return the columns of a table with these rows, or none if they make no table.
 * @param {unknown[]} rows @returns {string[]} */
function columnsOf(rows) {
  const flat = rows.every(
    (row) => isNested(row) && !Array.isArray(row) && !Object.values(row).some((cell) => isNested(cell)),
  );
  const columns = flat ? [...new Set(rows.flatMap((row) => Object.keys(/** @type {object} */ (row))))] : [];
  return columns.length <= MAX_COLUMNS ? columns : [];
}

/** @param {[string, unknown][]} entries @param {string[]} columns @param {boolean} named the rows have names */
function tableOf(entries, columns, named) {
  const rows = entries.map(([key, row]) => {
    const cells = columns.map((column) => /** @type {Record<string, unknown>} */ (row)[column]);
    return [...(named ? [key] : []), ...cells].map((cell) => ({
      text: cell === undefined ? "" : valueText(cell),
      numeric: typeof cell === "number",
    }));
  });
  return { columns: [...(named ? [""] : []), ...columns].map((name) => harmless(name, NAME_LENGTH)), rows };
}

/** Return a plain value as it was sent: a year or an id must not become "2,026". @param {unknown} value */
function valueText(value) {
  if (value === null) return "–";
  return harmlessLines(typeof value === "object" ? JSON.stringify(value) : String(value));
}
