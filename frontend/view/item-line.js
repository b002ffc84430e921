/*
 * Describes an item in one line: its name, and its error, result or message, shortened and made harmless.
 * It must not know the DOM or the job.
 * See also: job-view.js, which shows a job's failed items; ../element/item-pages.js, which lists items.
 */
import { harmless, number, say } from "./format.js";
import { english } from "./locale/en.js";

/** @import { Item, Words } from "../wire" */

const NAME_LENGTH = 72;
const MESSAGE_LENGTH = 300;
const RESULT_LENGTH = 160;

/** Describe an item in one line. @param {Item} item @param {Words} [words] */
export function itemLine(item, words = english) {
  const failed = item.state === "failed";
  const message = failed
    ? errorText({ message: item.error?.message ?? item.message }, words)
    : resultText(item.result, words) || harmless(item.message ?? "", RESULT_LENGTH);
  return { name: harmless(item.name, NAME_LENGTH), full_name: harmless(item.name), message, failed };
}

/** Describe a result in one line: the fields of an object, or the value itself.
 * @param {unknown} result @param {Words} words */
function resultText(result, words) {
  if (result === null || result === undefined) return "";
  const parts =
    typeof result === "object" && !Array.isArray(result)
      ? Object.entries(result).map(([key, value]) => `${key}: ${valueText(value, words)}`)
      : [valueText(result, words)];
  return harmless(parts.join(" · "), RESULT_LENGTH);
}

/** Describe a value: plain values as they are, lists and objects by their size.
 * @param {unknown} value @param {Words} words */
function valueText(value, words) {
  if (value !== null && typeof value === "object")
    return say(words, "result_entries", { count: Object.keys(value).length });
  return typeof value === "number" ? number(value, words) : String(value);
}

/** Return the reason for a failure. @param {{message: string | null}} error @param {Words} words */
export function errorText(error, words) {
  return error.message ? harmless(error.message, MESSAGE_LENGTH) : say(words, "no_reason");
}
