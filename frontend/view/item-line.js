/*
 * Describes an item for a row: its name, and its error, result or message, made harmless. An error is complete.
 * It must not know the DOM or the job.
 * See also: result.js for results; job-view.js, which shows a job's failed items; ../element/item-row.js.
 */
import { harmless, harmlessLines, say } from "./format.js";
import { english } from "./locale/en.js";
import { hasDetails, resultLine } from "./result.js";

/** @import { Item, Words } from "../wire" */

/** @typedef {object} ItemLine
 * @property {string} name
 * @property {string} full_name
 * @property {string} message
 * @property {boolean} failed
 * @property {boolean} folded the message is too long to be shown whole at first
 * @property {unknown} result if there is more to it than the message says */

const NAME_LENGTH = 72;
const MESSAGE_LENGTH = 160;
const FOLDED_LINES = 4;
const FOLDED_LENGTH = 300;

/** Describe an item. @param {Item} item @param {Words} [words] @returns {ItemLine} */
export function itemLine(item, words = english) {
  if (item.state === "failed")
    return errorLine({ name: item.name, message: item.error?.message ?? item.message }, words);
  return {
    ...names(item.name),
    message: resultLine(item.result, words) || harmless(item.message ?? "", MESSAGE_LENGTH),
    failed: false,
    folded: false,
    result: hasDetails(item.result, words) ? item.result : null,
  };
}

/** Describe a failed item. @param {{name: string, message: string | null}} error @param {Words} [words]
 * @returns {ItemLine} */
export function errorLine({ name, message }, words = english) {
  const text = message ? harmlessLines(message) : say(words, "no_reason");
  return { ...names(name), message: text, failed: true, folded: isLong(text), result: null };
}

/** Return whether a text is folded at first. @param {string} text */
export function isLong(text) {
  return text.length > FOLDED_LENGTH || text.split("\n").length > FOLDED_LINES;
}

/** @param {string} name */
function names(name) {
  return { name: harmless(name, NAME_LENGTH), full_name: harmless(name) };
}
