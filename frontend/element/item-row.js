/*
 * Builds the row of an item: its name, its message, the whole of a long error, and its result, level by level. A level
 * of a result is built when it is opened.
 * It must not know jobs or where items come from.
 * See also: ../view/item-line.js and ../view/result.js, which decide what is said.
 */
import { say } from "../view/format.js";
import { isNested, resultLevel, sizeText } from "../view/result.js";
import { make } from "./dom.js";

/** @import { Words } from "../wire" */
/** @import { ItemLine } from "../view/item-line.js" */

const OPEN_LEVELS = 2; // deeper ones are opened by a click
const SHORT_TEXT = 12; // characters that stay on one line of a table
const COPIED_MS = 2_000;

/** Make the row of an item. @param {ItemLine} line @param {Words} words @param {string | null} [href] of its file */
export function itemRow(line, words, href = null) {
  return make(
    "li",
    {},
    make("bdi", { title: line.full_name === line.name ? null : line.full_name }, line.name),
    href &&
      make(
        "a",
        { href, download: true, "aria-label": `${say(words, "download")}: ${line.name}` },
        say(words, "download"),
      ),
    line.failed && copyButton(line, words),
    ...messageNodes(line, words),
    line.result !== null && lazyDetails(say(words, "show_result"), () => resultNode(line.result, words, 1)),
  );
}

/** Make the message of an item, folded if it is long. @param {ItemLine} line @param {Words} words
 * @returns {HTMLElement[]} */
export function messageNodes(line, words) {
  if (!line.message) return [];
  const text = make("span", { class: line.failed ? "message whole" : "message", dir: "auto" }, line.message);
  if (!line.folded) return [text];
  const fold = make("button", { type: "button", class: "plain fold", "aria-expanded": "false" });
  const draw = (/** @type {boolean} */ folded) => {
    text.classList.toggle("folded", folded);
    fold.setAttribute("aria-expanded", String(!folded));
    fold.textContent = say(words, folded ? "show_whole" : "show_less");
  };
  fold.addEventListener("click", () => draw(!text.classList.contains("folded")));
  draw(true);
  return [text, fold];
}

/** Make a button that copies the message of an item. @param {ItemLine} line @param {Words} words */
export function copyButton(line, words) {
  const label = line.name ? say(words, "copy_error", { name: line.name }) : null;
  const button = make("button", { type: "button", class: "plain copy", "aria-label": label }, say(words, "copy"));
  button.addEventListener("click", async () => {
    const copied = await copy(line.message, button);
    button.removeAttribute("aria-label");
    button.textContent = say(words, copied ? "copied" : "not_copied");
    setTimeout(() => {
      button.textContent = say(words, "copy");
      if (label) button.setAttribute("aria-label", label);
    }, COPIED_MS);
  });
  return button;
}

/** Copy a text. Pages without TLS have no clipboard object, but can copy what is selected.
 * @param {string} text @param {HTMLElement} beside an element of the same tree and dialog */
async function copy(text, beside) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = make("textarea", { class: "unseen", readonly: true });
    field.value = text;
    beside.after(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    beside.focus();
    return copied;
  }
}

/** @param {unknown} value @param {Words} words @param {number} depth @returns {HTMLElement} */
function resultNode(value, words, depth) {
  const level = resultLevel(value, words);
  if (level.shape === "text") return make("span", { class: "whole", dir: "auto" }, level.text);
  const more = level.more && make("p", { class: "message" }, level.more);
  if (level.shape === "table") {
    const head = make("tr", {}, ...level.columns.map((name) => make("th", { scope: "col", dir: "auto" }, name)));
    const rows = level.rows.map((row) =>
      make("tr", {}, ...row.map((cell) => make("td", { class: cellClass(cell), dir: "auto" }, cell.text))),
    );
    const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
    return make("div", { class: "table", tabindex: "0" }, table, more);
  }
  const entries = level.entries.map(({ name, value: one }) => {
    const nested = isNested(one);
    const inner =
      nested && depth >= OPEN_LEVELS
        ? lazyDetails(sizeText(one, words), () => resultNode(one, words, depth + 1))
        : resultNode(one, words, depth + 1);
    return make("div", { class: nested && "nested" }, make("dt", { dir: "auto" }, name), make("dd", {}, inner));
  });
  return make("div", {}, make("dl", { class: "entries" }, ...entries), more);
}

/** @param {{text: string, numeric: boolean}} cell */
function cellClass({ text, numeric }) {
  if (numeric) return "number";
  return text.length <= SHORT_TEXT ? "short" : null; // a date must not break at its hyphens
}

/** Make a folded part whose content is built when it is opened first.
 * @param {string} title @param {() => HTMLElement} content */
function lazyDetails(title, content) {
  const details = make("details", { class: "inner" }, make("summary", {}, title));
  details.addEventListener("toggle", () => details.open && details.append(content()), { once: true });
  return details;
}
