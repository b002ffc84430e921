/*
 * Formats texts, numbers, durations, dates and sizes for people, and makes names from outside harmless.
 * It must not know when a text is shown, the DOM or a clock. Every result is plain text, without markup.
 * See also: locale/en.js for the texts; job-view.js, which decides when they are shown.
 */
import { english } from "./locale/en.js";

/** @import { Job, Words } from "../wire" */

const UNIT_LENGTH = 40;

/**
 * Return the text for `key` with its values filled in, in English if the translation lacks it.
 * @param {Words} words
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function say(words, key, values = {}) {
  const entry = words[key] ?? english[key] ?? key;
  const count = Number(values.count ?? 0);
  return form(entry, words, count).replace(/\{(\w+)\}/g, (whole, name) => {
    if (name === "unit") return form(unitOf(words), words, count);
    const value = name === "units" ? form(unitOf(words), words, Infinity) : values[name];
    return typeof value === "number" ? number(value, words) : (value ?? whole);
  });
}

/**
 * Return these texts for a job, or a kind of work, whose items have a name of their own: rows, mails, frames.
 * Every sentence about items is said with them; without a unit, items are files, or just items for external work.
 * @param {Words} words
 * @param {Partial<Pick<Job, "unit" | "units" | "external">> | null} of
 * @returns {Words}
 */
export function withUnit(words, of) {
  const name = harmless(of?.unit || (of?.external ? "item" : "file"), UNIT_LENGTH);
  const unit = words[`unit_${name}`] ??
    english[`unit_${name}`] ?? { one: name, other: harmless(of?.units || name, UNIT_LENGTH) };
  return Object.create(words, { unit: { value: unit } });
}

/** @param {Words} words */
function unitOf(words) {
  return words.unit ?? words.unit_file ?? english.unit_file ?? "";
}

/** Return the form of a text that fits the count. @param {Words[string]} entry @param {Words} words @param {number} count */
function form(entry, words, count) {
  return typeof entry === "string" ? entry : (entry[plural(words, count)] ?? entry.other);
}

/** @param {Words} words @param {number} count */
function plural(words, count) {
  return cached(rules, localeOf(words), (locale) => new Intl.PluralRules(locale)).select(count);
}

// Intl objects are expensive to make and cheap to use, and each redraw uses a dozen.
/** @type {Map<string, Intl.PluralRules>} */ const rules = new Map();
/** @type {Map<string, Intl.NumberFormat>} */ const numbers = new Map();

/**
 * Return the cached object for `key`, made on first use.
 * @template Made
 * @param {Map<string, Made>} cache
 * @param {string} key
 * @param {(key: string) => Made} make
 * @returns {Made}
 */
function cached(cache, key, make) {
  const made = cache.get(key) ?? make(key);
  cache.set(key, made);
  return made;
}

/** @param {Words} words */
export function localeOf(words) {
  return typeof words.locale === "string" ? words.locale : "en-GB";
}

/** @param {number} value @param {Words} words @param {Intl.NumberFormatOptions} [options] */
export function number(value, words, options) {
  const locale = localeOf(words);
  return cached(
    numbers,
    options ? `${locale} ${JSON.stringify(options)}` : locale,
    () => new Intl.NumberFormat(locale, options),
  ).format(value);
}

/**
 * Format whole percent, rounded down so that 100 % appears only at 100.
 * @param {number} value from 0 to 100
 * @param {Words} words
 */
export function percentText(value, words) {
  return number(Math.floor(value) / 100, words, { style: "percent" });
}

/** Format items per second, or per minute below one a second. @param {number} perSecond @param {Words} words */
export function rateText(perSecond, words) {
  const slow = perSecond < 1;
  const rate = slow ? perSecond * 60 : perSecond;
  const shown = Number(rate.toPrecision(rate < 100 ? 2 : 3));
  const values = { rate: number(shown, words, { maximumFractionDigits: 1 }), count: shown };
  return say(words, slow ? "rate_per_minute" : "rate_per_second", values);
}

const LONGEST_ETA_S = 30 * 86_400; // a longer forecast comes from a rate near zero

/**
 * Format a forecast of the time left: whole minutes from one minute on, steps of five from ten minutes on, and ""
 * beyond what can be forecast.
 * @param {number} seconds
 * @param {Words} words
 */
export function etaText(seconds, words) {
  if (!(seconds <= LONGEST_ETA_S)) return "";
  const step = seconds < 59.5 ? 1 : seconds < 600 ? 60 : 300;
  const rounded = Math.max(1, Math.round(seconds / step) * step);
  return say(words, rounded < 60 ? "eta_seconds" : "eta", { duration: duration(rounded, words) });
}

/**
 * Format a duration as precisely as is useful: 7 s, 1 min 20 s, 12 min, 3 h 5 min, 2 days.
 * @param {number} seconds
 * @param {Words} words
 */
export function duration(seconds, words) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return say(words, "seconds", { n: whole });
  if (whole < 300 && whole % 60 !== 0)
    return say(words, "minutes_seconds", { n: Math.floor(whole / 60), m: whole % 60 });
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return say(words, "minutes", { n: minutes });
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  if (hours < 48) return say(words, rest === 0 ? "hours" : "hours_minutes", { n: hours, m: rest });
  return say(words, "days", { n: Math.round(hours / 24), count: Math.round(hours / 24) });
}

/** Format the day and the time of day in the device's time zone, with the year unless it is the current one.
 * @param {Date} at @param {Date} now @param {Words} words */
export function dateAndTime(at, now, words) {
  const year = at.getFullYear() === now.getFullYear() ? {} : { year: /** @type {const} */ ("numeric") };
  return {
    date: new Intl.DateTimeFormat(localeOf(words), { day: "numeric", month: "long", ...year }).format(at),
    time: new Intl.DateTimeFormat(localeOf(words), { hour: "2-digit", minute: "2-digit" }).format(at),
  };
}

/** Format a size in decimal units. @param {number} bytes @param {Words} words */
export function byteSize(bytes, words) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return number(value, words, {
    style: "unit",
    unit: units[power],
    unitDisplay: power === 0 ? "long" : "short",
    maximumFractionDigits: power === 0 || value >= 100 ? 0 : 1,
  });
}

// Control characters, line and direction marks, and lone surrogates: they are invisible and can make one name look
// like another ("exe.fdp", displayed right to left, reads "pdf.exe").
const HARMFUL =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const SHORT_ESCAPES = new Map([
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
]);

/** Escape the invisible characters of a text from outside, but keep its line breaks and tabs. @param {string} text */
export function harmlessLines(text) {
  const lines = text.split(/\r\n|\n|\r/).map((line) =>
    line
      .split("\t")
      .map((part) => harmless(part))
      .join("\t"),
  );
  return lines.join("\n").trimEnd();
}

/** Escape the invisible characters of a text from outside, and shorten it in the middle so that its end stays.
 * @param {string} text @param {number} [length] */
export function harmless(text, length = Infinity) {
  const visible = String(text).replace(
    HARMFUL,
    (one) => SHORT_ESCAPES.get(one) ?? `\\u${one.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`,
  );
  const letters = [...visible];
  if (letters.length <= length) return visible;
  const tail = Math.floor(length / 3);
  return `${letters.slice(0, length - tail - 1).join("")}…${letters.slice(-tail).join("")}`;
}
