/*
 * Makes the form fields for a kind's options from their declarations, and reads the values back. The browser
 * checks them (required, min, max, step), and the server checks again.
 * It must not know any kind by name.
 * See also: new-job.js; PROTOCOL.md for the declarations.
 */
import { make } from "../element/dom.js";
import { say } from "../view/format.js";
import { english } from "../view/locale/en.js";

/** @import { Option, Words } from "../wire" */

/** Make one field per option. @param {Option[]} options @param {Words} [words] @returns {HTMLElement[]} */
export function optionFields(options, words = english) {
  return options.map((option) => {
    const id = `option-${option.name}`;
    const hint = hintOf(option, words);
    const input = control(option, words);
    input.id = id;
    input.setAttribute("name", option.name);
    if (hint) input.setAttribute("aria-describedby", `${id}-hint`);
    const label = make("label", { for: id }, labelOf(option.name));
    const help = hint && make("p", { class: "hint", id: `${id}-hint` }, hint);
    return option.type === "boolean"
      ? make("div", { class: "field tick" }, input, label, help)
      : make("div", { class: "field" }, label, input, help);
  });
}

/** Read the values in the form. Empty ones are left out, so that the server's defaults apply.
 * @param {Option[]} options @param {HTMLFormElement} form @returns {Record<string, unknown>} */
export function optionValues(options, form) {
  /** @type {Record<string, unknown>} */
  const values = {};
  for (const option of options) {
    const input = form.elements.namedItem(option.name);
    if (input instanceof HTMLInputElement && option.type === "boolean") values[option.name] = input.checked;
    else if (input instanceof HTMLSelectElement && input.value !== "")
      values[option.name] = (option.choices ?? []).find((choice) => String(choice) === input.value);
    else if (input instanceof HTMLInputElement && (option.type === "integer" || option.type === "number")) {
      if (input.value !== "") values[option.name] = Number(input.value);
    } else if (input instanceof HTMLInputElement && (input.value !== "" || option.required))
      values[option.name] = input.value;
  }
  return values;
}

/** Fill in values that were sent before. @param {Record<string, unknown>} values @param {HTMLFormElement} form */
export function fillOptions(values, form) {
  for (const [name, value] of Object.entries(values)) {
    const input = form.elements.namedItem(name);
    if (input instanceof HTMLInputElement && input.type === "checkbox") input.checked = value === true;
    else if (input instanceof HTMLInputElement || input instanceof HTMLSelectElement) input.value = String(value);
  }
}

/** @param {Option} option @param {Words} words @returns {HTMLInputElement | HTMLSelectElement} */
function control(option, words) {
  const { type, required, default: preset, minimum, maximum, choices } = option;
  const text = preset === null || preset === undefined ? null : String(preset);
  if (type === "boolean") return make("input", { type: "checkbox", checked: preset === true });
  if (type === "choice") {
    const empty = !required && text === null ? [make("option", { value: "" }, say(words, "not_set"))] : [];
    const list = (choices ?? []).map((choice) =>
      make("option", { value: String(choice), selected: String(choice) === text }, choiceText(choice, words)),
    );
    return make("select", { required }, ...empty, ...list);
  }
  if (type === "text")
    return make("input", { type: "text", required, value: text, autocomplete: "off", spellcheck: "false" });
  const step = type === "integer" ? "1" : "any";
  return make("input", {
    type: "number",
    step,
    required,
    value: text,
    min: bound(minimum),
    max: bound(maximum),
    inputmode: type === "integer" ? "numeric" : "decimal",
  });
}

/** Name a choice for people: a comma alone cannot be read. @param {string | number} choice @param {Words} [words] */
export function choiceText(choice, words = english) {
  const key = `choice_${choice}`;
  return (words[key] ?? english[key]) ? say(words, key) : String(choice);
}

/** @param {number | null} value */
function bound(value) {
  return value === null || value === undefined ? null : String(value);
}

/** Say what may be entered: the description, and the range unless the description has it.
 * @param {Pick<Option, "type" | "description" | "minimum" | "maximum">} option @param {Words} [words] */
export function hintOf({ type, description, minimum, maximum }, words = english) {
  const [low, high] = [minimum ?? null, maximum ?? null];
  const range =
    type !== "integer" && type !== "number"
      ? ""
      : low !== null && high !== null
        ? say(words, "range", { minimum: low, maximum: high })
        : low !== null
          ? say(words, "at_least", { minimum: low })
          : high !== null
            ? say(words, "at_most", { maximum: high })
            : "";
  const sentence = plainText(description ?? "").replace(/([^.!?])$/, "$1.");
  const said = [low, high].every((number) => number === null || mentions(sentence, number));
  return [sentence, said ? "" : range].filter(Boolean).join(" ");
}

/** Return a description without the backticks of Markdown and docstrings. @param {string} text */
export function plainText(text) {
  return text.replace(/(`+)([^`]+)\1/g, "$2");
}

/** Return whether a text has this number. @param {string} text @param {number} number */
function mentions(text, number) {
  return (text.replace(/(?<=\d),(?=\d{3})/g, "").match(/-?\d+(\.\d+)?/g) ?? []).some(
    (one) => Number(one) === number,
  );
}

/** Turn has_header into "Has header". @param {string} name */
function labelOf(name) {
  const words = name.replaceAll("_", " ").replaceAll("-", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
