/*
 * Every word of job-progress, in English, and how numbers, times and foreign names are put into words.
 * It decides wording and nothing else: when something is said is for view.js. A translation is a copy of
 * the table with other texts, its own `locale`, and the plural forms that Intl.PluralRules knows for it.
 * {name} is filled in; where a table stands in place of a text, {count} chooses from it. No markup:
 * everything is shown as text, and what comes from outside is made harmless here.
 */

/** @import { Words } from "./wire" */

/** @type {Words} */
export const english = {
  locale: "en-GB",

  // states, as a badge
  queued: "Waiting",
  running: "Running",
  cancelling: "Cancelling …",
  completed: "Done",
  completed_with_errors: "Done, with errors",
  failed: "Failed",
  cancelled: "Cancelled",
  loading: "Loading …",
  unknown: "Unknown",

  // numbers
  untitled: "{kind}",
  title_loading: "Job",
  title_not_found: "Job not found",
  files_of: { one: "{processed} of {total} file", other: "{processed} of {total} files" },
  files_so_far: { one: "{processed} file so far", other: "{processed} files so far" },
  files_waiting: { one: "{total} file", other: "{total} files" },
  rate_per_second: { one: "{rate} file/s", other: "{rate} files/s" },
  rate_per_minute: { one: "{rate} file/min", other: "{rate} files/min" },
  eta: "about {duration} left",
  took: "It took {duration}.",
  seconds: "{n} s",
  minutes: "{n} min",
  minutes_seconds: "{n} min {m} s",
  hours: "{n} h",
  hours_minutes: "{n} h {m} min",
  days: { one: "{n} day", other: "{n} days" },
  succeeded: "Succeeded",
  failed_count: "Failed",
  skipped: "Skipped",
  remaining: "To do",
  not_done: "Not done",
  attempt: "Attempt {attempt} of {max}",
  now_working_on: "Now",
  and_more: { one: "and {count} more", other: "and {count} more" },
  progress_label: "Progress of {name}",

  // the sentence at the end
  end_completed: { one: "The file is done.", other: "All {total} files are done." },
  end_completed_empty: "Done. There was nothing to do.",
  end_completed_skipped: { one: "All {total} files are done, 1 was skipped.", other: "All {total} files are done, {count} were skipped." },
  end_errors: { one: "{succeeded} of {total} file is done, {failed} failed.", other: "{succeeded} of {total} files are done, {failed} failed." },
  end_failed: "Failed: {message}",
  end_failed_plain: "Failed. The server gave no reason.",
  end_cancelled: { one: "Cancelled after {processed} of {total} file.", other: "Cancelled after {processed} of {total} files." },
  end_cancelled_open: { one: "Cancelled after {processed} file.", other: "Cancelled after {processed} files." },
  end_unknown: "Ended in the state “{state}”.",

  // how long a finished job is kept
  kept_until: "Kept until {date}, {time}.",
  removed_in_hours: { one: "Removed in {count} hour, at {time}.", other: "Removed in {count} hours, at {time}." },
  removed_in_minutes: { one: "Removed in {count} minute, at {time}.", other: "Removed in {count} minutes, at {time}." },
  removed_soon: "Its time is over: it is removed soon.",

  // health of the work
  waiting_long: "Queued for {duration}: no worker has taken it up.",
  waiting_long_again: "Waiting for {duration}: no worker goes on with it.",
  stalled: "No progress for {duration}, though the worker is alive.",
  unresponsive: "No sign of the worker for {duration}.",
  waiting_long_advice: "Nothing is lost; it goes on as soon as one is free.",
  stalled_advice: "Some work is silent for long. If this is not, cancel it, or ask whoever runs this server.",
  unresponsive_advice: "You need not do anything: if it stays silent, another one takes over.",
  badge_waiting_long: "Waiting long",
  badge_stalled: "No progress",
  badge_unresponsive: "No sign of life",
  cancel_asked: "Cancelling … Files that are done stay done.",
  cancel_asked_since: "Cancelling … since {duration}. Files that are done stay done.",

  // the link to the server
  link_connecting: "Connecting …",
  link_reconnecting: "Reconnecting …",
  link_live: "Live",
  link_catching_up: "Catching up …",
  link_polling: "No live updates; asking every few seconds instead.",
  link_offline: "No answer from the server; trying again. What is done stays done.",
  link_browser_offline: "This device seems to be offline; trying again. The work goes on without it.",
  link_trouble: "The server answers with an error ({status}); trying again. What is done stays done.",
  link_garbage: "The answer did not come from the progress server; trying again.",
  link_signed_out: "Your sign-in is no longer valid. Sign in again, and this goes on by itself.",
  link_not_found: "There is no job {id}. It may have been removed, or the address is wrong.",
  link_gave_up: "No news for {duration}, so watching has stopped. The jobs themselves go on.",
  link_gave_up_job: "No news of job {id} for {duration}, so watching has stopped. The job itself goes on.",
  news_age: "Last news {duration} ago.",
  found_by_asking: "found by asking",
  end_found_by_asking: "Found by asking; the live updates had not said so.",

  // buttons
  cancel: "Cancel",
  check: "Check status",
  checking: "Checking …",
  keep_watching: "Keep watching",
  close: "Close",
  sign_in: "Sign in",
  create_new: "Create new job",
  notify: "Notify me",
  notify_on: "You will be notified",
  retry: { one: "Try the file again", other: "Try {count} files again" },
  retry_failed: { one: "Try the failed file again", other: "Try {count} failed files again" },
  retrying: "Starting again …",
  download_all: "Download (ZIP)",
  download: "Download",
  show_failed: { one: "Show the failed file", other: "Show all {count} failed files" },
  show_results: "Show the results",
  next_page: "Next",
  first_page: "Back to the start",
  page_of: "{from} – {to} of {count}",

  // what happened to a job
  details: "Details",
  ago: "{duration} ago",
  tl_all: { one: "{count} entry", other: "{count} entries" },
  tl_newest: { one: "the newest entry", other: "the newest {count} entries" },
  tl_earlier: "Show earlier ones",
  tl_attempt: "attempt {attempt}",
  tl_submitted: "Submitted",
  tl_submitted_again: "Submitted, as a {text}",
  tl_state_running: "Started",
  tl_state_completed: "Done",
  tl_state_completed_with_errors: "Done, with errors",
  tl_state_failed: "Failed",
  tl_state_cancelled: "Cancelled",
  tl_state: "New state: {text}",
  tl_health_ok: "Getting on again",
  tl_health_waiting_long: "Waiting for long: no worker has taken it up",
  tl_health_stalled: "No progress for long",
  tl_health_unresponsive: "No sign of life from the worker",
  tl_health: "New condition: {text}",
  tl_cancel_requested: "Somebody asked to cancel it",
  tl_stopped: "Stopped: {text}",
  tl_rescued: "What was running was taken from its worker: {text}",
  tl_item_started: "started",
  tl_item_ended_succeeded: "done",
  tl_item_ended_skipped: "skipped",
  tl_item_ended_cancelled: "cancelled",
  tl_item_ended: "ended: {text}",
  tl_item_failed: "failed: {text}",
  tl_attempt_failed: "{text}",
  tl_given_back: "given back by its worker, not worked on",
  tl_webhook: "Webhook {text}",
  tl_other: "{what} {text}",

  // lists of items
  problems: { one: "{count} file failed", other: "{count} files failed" },
  results: "Results",
  no_items: "There is nothing to show.",
  no_reason: "no reason given",
  items_loading: "Loading …",
  items_failed: "The list could not be loaded: {reason}",
  result_empty: "no result",
  result_entries: { one: "{count} entry", other: "{count} entries" },

  // notifications
  notice_on: "You will be told here when it is done, as long as this page stays open.",
  notice_refused: "This browser does not allow notifications from this page.",

  // what a check found
  found_news: "Checked: there was news, shown here.",
  found_same: "Checked: nothing new; this is the current state.",
  found_failed: "Checked: the server did not answer. The state shown is the last one known.",
  found_trouble: "Checked: the server answered with an error ({status}). The state shown is the last one known.",
  cancel_failed: "Cancelling was not possible: {reason}",
  retry_failed_to: "Trying again was not possible: {reason}",
  retry_started: "This is a new job for what was not done. The first one stays as it was.",
  no_contact: "the server did not answer; please try again",
  bad_status: "the server answered with an error ({status})",

  // the batch page: choosing and sending
  chosen: { one: "{count} file, {size}", other: "{count} files, {size}" },
  chosen_more: { one: "and {count} more", other: "and {count} more" },
  reading_folder: "Reading the folder …",
  reading_files: { one: "Reading {count} file …", other: "Reading {count} files …" },
  remove_all: "Remove all",
  choose_again: "This page no longer has the files of that job. Please choose them again.",
  start_files: { one: "Start with {count} file", other: "Start with {count} files" },
  start_items: { one: "Start with {count} item", other: "Start with {count} items" },
  start: "Start",
  choose_first: "Choose at least one file.",
  too_many_files: "These are {count} files; one job takes up to {max}. Please split them into several jobs.",
  file_too_large: "{name} is {size}; a file may have up to {max}.",
  job_too_large: "Together these files have {size}; one job takes up to {max}.",
  name_too_long: "{name}: the name has {count} characters; up to {max} are allowed.",
  and_others: { one: "{count} more file has the same problem.", other: "{count} more files have the same problem." },
  not_accepted: { one: "{count} of the files does not look like what this kind of work takes ({accept}). You can start anyway.", other: "{count} of the files do not look like what this kind of work takes ({accept}). You can start anyway." },
  folder_unreadable: "{name} could not be read and was left out: {reason}",
  default_is: "Default: {value}.",
  range: "{minimum} to {maximum}.",
  at_least: "At least {minimum}.",
  at_most: "At most {maximum}.",
  not_set: "not set",
  uploading: { one: "Uploading {count} file", other: "Uploading {count} files" },
  upload_amount: "{sent} of {size}",
  upload_accepting: "Everything is there. Waiting for the server to accept the job …",
  upload_cancelled: "The upload was cancelled; no job was started. Your files are still chosen.",
  upload_failed: "The job was not started: {reason}",
  upload_unclear: "The upload ended without an answer: {reason}",
  upload_broken: "the connection broke, or a file changed while it was read. Your files are still chosen. Start again: what the server had already is not done twice.",
  kinds_failed: "The server could not say what it can do: {reason}",
  try_again: "Try again",

  // the batch page: the list
  no_jobs: "No jobs yet. What you start appears here, for everybody who may see it.",
  list_full: "Only the newest {count} jobs are listed.",
  list_trouble: "The list may be out of date. {text}",
  more_jobs: "Show more",
  failures: { one: "{count} failed", other: "{count} failed" },
  created: "Created {time}",

  // the batch page: jobs that do not get on
  attention: "Needs attention",
  attention_more: { one: "{count} more job does not get on.", other: "{count} more jobs do not get on." },
  attention_again: "It gets on again.",
  attention_ended: "It has ended.",
  known_life: "Last sign of life {duration} ago",
  known_worker: "worker {worker}",
  known_items: { one: "at {names}", other: "at {names} and {more} more" },
  rescue: "Try its running files again",
  rescue_what: { one: "The file that runs is taken from its worker and tried again. What is done stays done.", other: "The {count} files that run are taken from their worker and tried again. What is done stays done." },
  rescue_last: { one: "{count} file is at its last attempt, and will fail instead.", other: "{count} files are at their last attempt, and will fail instead." },
  rescue_do: "Try again now",
  rescued: "{name}: what was running is tried again.",
  give_up: "Give up on it …",
  give_up_what: "{stops}, and the job ends as failed. What is done stays done. This cannot be undone.",
  give_up_plain: "The job ends as failed. What is done stays done. This cannot be undone.",
  give_up_running: { one: "{count} running file is stopped", other: "{count} running files are stopped" },
  give_up_waiting: { one: "{count} waiting file is cancelled", other: "{count} waiting files are cancelled" },
  give_up_why: "Why? Everybody who looks at the job will read it.",
  give_up_do: "End the job as failed",
  gave_up_on: "{name}: given up.",
  leave_it: "Leave it",
  operate_failed: "{name}: that was not possible: {reason}",
  page_title: "{state} – {name}",

  // for a screen reader
  say_percent: "{percent} done.",
  say_link_lost: "Connection lost; trying again.",
  say_link_back: "Connected again.",
};

/** The text for `key`, with its values filled in. @param {Words} words @param {string} key @param {Record<string, string | number>} [values] */
export function say(words, key, values = {}) {
  const entry = words[key] ?? english[key] ?? key;
  const text = typeof entry === "string" ? entry : (entry[plural(words, Number(values.count ?? 0))] ?? entry.other);
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value, words) : (value ?? whole);
  });
}

/** @param {Words} words @param {number} count */
function plural(words, count) {
  return kept(rules, localeOf(words), (locale) => new Intl.PluralRules(locale)).select(count);
}

// What Intl makes is dear to make and cheap to use: a drawing asks a dozen times.
/** @type {Map<string, Intl.PluralRules>} */ const rules = new Map();
/** @type {Map<string, Intl.NumberFormat>} */ const numbers = new Map();

/** @template Made @param {Map<string, Made>} made @param {string} key @param {(key: string) => Made} make @returns {Made} */
function kept(made, key, make) {
  const found = made.get(key) ?? make(key);
  made.set(key, found);
  return found;
}

/** @param {Words} words */
export function localeOf(words) {
  return typeof words.locale === "string" ? words.locale : "en-GB";
}

/** @param {number} value @param {Words} words @param {Intl.NumberFormatOptions} [options] */
export function number(value, words, options) {
  const locale = localeOf(words);
  return kept(numbers, options ? `${locale} ${JSON.stringify(options)}` : locale, () => new Intl.NumberFormat(locale, options)).format(value);
}

/** Whole percent, never rounded up: 100 % is said only when it is so. @param {number} value from 0 to 100 @param {Words} words */
export function percentText(value, words) {
  return number(Math.floor(value) / 100, words, { style: "percent" });
}

/** Per second, or per minute where that is the readable number. @param {number} perSecond @param {Words} words */
export function rateText(perSecond, words) {
  const slow = perSecond < 1;
  const rate = slow ? perSecond * 60 : perSecond;
  const shown = Number(rate.toPrecision(rate < 100 ? 2 : 3));
  const values = { rate: number(shown, words, { maximumFractionDigits: 1 }), count: shown };
  return say(words, slow ? "rate_per_minute" : "rate_per_second", values);
}

/** As exact as is of use: 7 s, 1 min 20 s, 12 min, 3 h 5 min, 2 days. @param {number} seconds @param {Words} words */
export function duration(seconds, words) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return say(words, "seconds", { n: whole });
  if (whole < 300 && whole % 60 !== 0) return say(words, "minutes_seconds", { n: Math.floor(whole / 60), m: whole % 60 });
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return say(words, "minutes", { n: minutes });
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  if (hours < 48) return say(words, rest === 0 ? "hours" : "hours_minutes", { n: hours, m: rest });
  return say(words, "days", { n: Math.round(hours / 24), count: Math.round(hours / 24) });
}

/** On this device's clock: the day, with its year where that is another one, and the time of day.
 * @param {Date} at @param {Date} now @param {Words} words */
export function dateAndTime(at, now, words) {
  const year = at.getFullYear() === now.getFullYear() ? {} : { year: /** @type {const} */ ("numeric") };
  return {
    date: new Intl.DateTimeFormat(localeOf(words), { day: "numeric", month: "long", ...year }).format(at),
    time: new Intl.DateTimeFormat(localeOf(words), { hour: "2-digit", minute: "2-digit" }).format(at),
  };
}

/** @param {number} bytes @param {Words} words */
export function byteSize(bytes, words) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return number(value, words, { style: "unit", unit: units[power], unitDisplay: power === 0 ? "long" : "short", maximumFractionDigits: power === 0 || value >= 100 ? 0 : 1 });
}

// Control characters, line and direction marks, and halves of surrogate pairs: invisible on the screen,
// and able to make a name look like another one ("exe.fdp" turned around reads "pdf.exe").
const HARMFUL = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const SHORT_ESCAPES = new Map([["\n", "\\n"], ["\r", "\\r"], ["\t", "\\t"]]);

/** A text from outside with nothing invisible left in it, shortened in the middle so that its end can still
 * be read. @param {string} text @param {number} [length] */
export function harmless(text, length = Infinity) {
  const visible = String(text).replace(HARMFUL, (one) => SHORT_ESCAPES.get(one) ?? `\\u${one.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
  const letters = [...visible];
  if (letters.length <= length) return visible;
  const tail = Math.floor(length / 3);
  return `${letters.slice(0, length - tail - 1).join("")}…${letters.slice(-tail).join("")}`;
}
