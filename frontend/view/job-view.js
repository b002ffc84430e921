/*
 * Decides what the screen shows for a job: (job, link, …) → texts, numbers, bar, badge, buttons. Names and
 * messages from outside are made harmless here.
 * It must not know the DOM, a clock or the network: everything that depends on time comes in as an argument.
 * See also: locale/en.js for the texts; format.js; ../element/template.js, which draws the result.
 */
import { actions, toRetry } from "./actions.js";
import { isLost, linkReason, lostSinceBadge, staleness } from "./contact.js";
import {
  dateAndTime,
  duration,
  etaText,
  harmless,
  harmlessLines,
  number,
  percentText,
  rateText,
  say,
  withUnit,
} from "./format.js";
import { healthNote, isStuck } from "./health.js";
import { errorLine, isLong } from "./item-line.js";
import { english } from "./locale/en.js";

/** @import { Job, Link, Words } from "../wire" */
/** @import { ItemLine } from "./item-line.js" */

/**
 * @typedef {object} JobView
 * @property {string} title
 * @property {string} full_title
 * @property {string} kind
 * @property {boolean} done
 * @property {boolean} results true if results of items can be shown, now or later
 * @property {boolean} errors_file true if the errors can be downloaded
 * @property {boolean} download true if there is something to download
 * @property {{text: string, tone: Tone}} badge
 * @property {{value: number | null, label: string, tone: Tone}} bar value from 0 to 100, or null if unknown
 * @property {boolean} meter true if there is progress to show
 * @property {string} percent
 * @property {string} eta
 * @property {string} amount
 * @property {string} rate
 * @property {{label: string, value: string, tone: Tone}[]} counts
 * @property {string} stage
 * @property {{names: string[], more: string}} current
 * @property {string} note on the health of the work, e.g. why it is stuck
 * @property {string} sentence the outcome, once done
 * @property {ItemLine | null} reason why the job failed, if the sentence does not say all of it
 * @property {string} kept how long the job is kept, once done
 * @property {{text: string, tone: Tone, age: string, found: string}} link
 * @property {ItemLine[]} errors
 * @property {number} failed
 * @property {Record<"cancel" | "check" | "keep_watching" | "sign_in" | "create_new" | "notify" | "retry", {shown:
 *   boolean, enabled: boolean, text: string}>} buttons
 */

/** @typedef {"quiet" | "busy" | "stopped" | "lost" | "good" | "warn" | "bad"} Tone */

/** @typedef {object} ViewInput
 * @property {Job | null} job
 * @property {Link} link
 * @property {string} [id] of the requested job, before any answer
 * @property {number | null} [news_age_ms]
 * @property {number} [now_ms] the server's time
 * @property {{status: number | null, code: string | null} | null} [failure]
 * @property {boolean} [checking]
 * @property {boolean} [cancelling] a request to cancel is in flight
 * @property {boolean} [retrying] a request to retry is in flight
 * @property {boolean} [retried] another job retries this one already
 * @property {boolean} [removed] the finished job is no longer on the server
 * @property {boolean} [browser_offline]
 * @property {boolean} [found_by_polling] the newest state came from a watchdog poll, not from the stream
 * @property {boolean} [can_create] the page can start another job
 * @property {"offer" | "on" | "none"} [notice] a system notification can be requested, is requested, or neither
 * @property {number} [floor] percent below which the bar must not fall (see `forward`)
 * @property {string} [label] the page's own title for the job */

const AGE_SHOWN_AFTER_MS = 5_000; // a more recent state needs no age
const LIVE_AGE_SHOWN_AFTER_MS = 20_000; // a heartbeat is late
const CURRENT_NAMES = 1; // the others are counted, so that the line keeps its length
const NAME_LENGTH = 72;
const TITLE_LENGTH = 200; // the longest name that the page submits: names that differ are told apart
const MESSAGE_LENGTH = 300;
const HOUR_S = 3_600;

/** @type {Record<string, Tone>} */
const TONES = {
  queued: "quiet",
  running: "busy",
  cancelling: "warn",
  completed: "good",
  completed_with_errors: "warn",
  failed: "bad",
  cancelled: "stopped",
};
const COUNTED = ["completed", "completed_with_errors"];

/** Return everything that the screen shows. @param {ViewInput} seen @param {Words} [texts] @returns {JobView} */
export function jobView(seen, texts = english) {
  const { job } = seen;
  const words = withUnit(texts, job);
  const done = job?.done ?? false;
  const lost = done ? null : lostSinceBadge(seen, words);
  // Without contact, what is told of the work is told as of the last news: no duration grows unobserved.
  const now_ms = (seen.now_ms ?? Date.parse(job?.server_time ?? "")) - (done ? 0 : staleness(seen));
  const state = badge(job, words);
  const title =
    seen.label ||
    (job ? jobTitle(job, words) : say(words, seen.link === "not_found" ? "title_not_found" : "title_loading"));
  const possible = job ? actions(job, now_ms, seen.removed) : null;
  return {
    title,
    full_title: seen.label || harmless(job?.name || title),
    done,
    results: possible !== null && possible.read && (!done || (job?.progress.succeeded ?? 0) > 0),
    errors_file: possible !== null && possible.read && (job?.progress.failed ?? 0) > 0,
    download: possible?.download ?? false,
    kind: job && job.name ? kindTitle(job.kind, words) : "",
    badge: lost ?? state,
    bar: {
      value: job ? barValue(job, seen.floor) : null,
      label: say(words, "progress_label", { name: title }),
      tone: done ? state.tone : lost ? "lost" : "busy",
    },
    meter: job !== null || seen.link !== "not_found",
    ...numbers(seen, words),
    counts: job ? counts(job, words) : [],
    stage: job && !done ? stage(job, words) : "",
    current: job && !done && !lost ? current(job, words) : { names: [], more: "" },
    note: job && !done ? note(job, now_ms, words) : "",
    sentence: job && done ? sentence(job, words) : "",
    reason: job && done ? reason(job) : null,
    kept: job && done ? (seen.removed ? say(words, "removed") : kept(job, now_ms, words)) : "",
    link: link(seen, words),
    errors: (job?.item_errors ?? []).map((error) => errorLine(error, words)),
    failed: job?.progress.failed ?? 0,
    buttons: buttons(seen, words),
  };
}

/** Keep the bar from going back: return the highest percent shown in this attempt of this job.
 * @param {{id: string, attempt: number, seq: number, percent: number} | null} shown @param {Job} job */
export function forward(shown, job) {
  const percent = job.progress.percent ?? 0;
  const same = shown !== null && shown.id === job.id && shown.attempt === job.attempt && job.seq >= shown.seq;
  return {
    id: job.id,
    attempt: job.attempt,
    seq: job.seq,
    percent: same ? Math.max(shown.percent, percent) : percent,
  };
}

/** Return the job's name, or its kind if it has none. @param {Job} job @param {Words} words */
export function jobTitle(job, words = english) {
  return job.name
    ? harmless(job.name, TITLE_LENGTH)
    : say(words, "untitled", { kind: kindTitle(job.kind, words) });
}

/** Return the kind's title, if the page has added it to the texts, or its name. @param {string} kind @param {Words} words */
export function kindTitle(kind, words = english) {
  return words[`kind:${kind}`] ? say(words, `kind:${kind}`) : harmless(kind, NAME_LENGTH);
}

/** Return the badge for the job's state. An unknown state counts as running until the job is done.
 * @param {Job | null} job @param {Words} words @returns {{text: string, tone: Tone}} */
export function badge(job, words = english) {
  if (!job) return { text: say(words, "loading"), tone: "quiet" };
  if (isStuck(job)) return { text: say(words, `badge_${job.health}`), tone: "warn" };
  const known = Object.hasOwn(TONES, job.state);
  const state =
    !job.done && job.cancel_requested ? "cancelling" : known ? job.state : job.done ? "unknown" : "running";
  return { text: say(words, state), tone: TONES[state] ?? "quiet" };
}

/** Return percent from 0 to 100 (100 only once done), or null if unknown: a job of unknown total that was cut short
 * has no percent. @param {Job} job @param {number} [floor] */
export function barValue(job, floor = 0) {
  if (job.done)
    return job.progress.percent ?? (["completed", "completed_with_errors"].includes(job.state) ? 100 : null);
  if (job.progress.percent === null) return job.state === "queued" ? 0 : null;
  return Math.min(99.9, Math.max(floor, job.progress.percent));
}

/** Return how many items are processed, e.g. "11 of 25 files". @param {Job} job @param {Words} texts */
export function amount(job, texts = english) {
  const words = withUnit(texts, job);
  const { total, processed } = job.progress;
  const values = { processed: number(processed, words), total: number(total ?? 0, words) };
  if (total === null) return say(words, "files_so_far", { ...values, count: processed });
  if (job.state === "queued" && processed === 0) return say(words, "files_waiting", { ...values, count: total });
  return say(words, "files_of", { ...values, count: total });
}

/** @param {ViewInput} seen @param {Words} words */
function numbers(seen, words) {
  const { job, floor } = seen;
  // Once done, the sentence says it all, and the counts what it leaves out.
  if (!job || job.done) return { percent: "", eta: "", amount: "", rate: "" };
  const { eta_seconds: eta, rate_per_second: rate } = job.progress;
  const known = !isLost(seen) && !isStuck(job); // else nothing is forecast
  const value = barValue(job, floor);
  const counting = value !== null && (job.state !== "queued" || value > 0);
  return {
    percent: counting ? percentText(value, words) : "",
    eta: eta !== null && known ? etaText(eta, words) : "",
    amount: amount(job, words),
    rate: rate && known ? rateText(rate, words) : "",
  };
}

/** @param {Job} job @param {Words} words @returns {JobView["counts"]} */
function counts(job, words) {
  const { total, processed, succeeded, failed, skipped } = job.progress;
  if (COUNTED.includes(job.state)) return []; // the sentence has these numbers
  /** @type {[string, number, Tone][]} */
  const rows = [
    ["succeeded", succeeded, "good"],
    ["failed_count", failed, failed > 0 ? "bad" : "quiet"],
  ];
  if (skipped > 0) rows.push(["skipped", skipped, "quiet"]);
  if (total !== null && (!job.done || total > processed))
    rows.push([job.done ? "not_done" : "remaining", Math.max(0, total - processed), "quiet"]);
  return rows.map(([label, value, tone]) => ({ label: say(words, label), value: number(value, words), tone }));
}

/** @param {Job} job @param {Words} words */
function stage(job, words) {
  const parts = [job.progress.stage, job.progress.message].map((text) => harmless(text ?? "", MESSAGE_LENGTH));
  if (job.attempt > 1)
    parts.unshift(
      say(words, "attempt", { attempt: number(job.attempt, words), max: number(job.max_attempts, words) }),
    );
  return parts.filter(Boolean).join(" · ");
}

/** @param {Job} job @param {Words} words */
function current(job, words) {
  const names = (job.progress.current ?? []).map((name) => harmless(name, NAME_LENGTH));
  const more = names.length - CURRENT_NAMES;
  return { names: names.slice(0, CURRENT_NAMES), more: more > 0 ? say(words, "and_more", { count: more }) : "" };
}

/** @param {Job} job @param {number} now_ms @param {Words} words */
function note(job, now_ms, words) {
  if (job.cancel_requested) return cancelNote(job, now_ms, words);
  return healthNote(job, now_ms, words);
}

/** @param {Job} job @param {number} now_ms @param {Words} words */
function cancelNote(job, now_ms, words) {
  const since = Date.parse(job.cancel_requested_at ?? "");
  if (!(now_ms - since >= 1_000)) return say(words, "cancel_asked");
  return say(words, "cancel_asked_since", { duration: duration((now_ms - since) / 1_000, words) });
}

/** Return the outcome in one sentence. @param {Job} job @param {Words} [texts] */
export function sentence(job, texts = english) {
  const words = withUnit(texts, job);
  const { total, processed, succeeded, failed, skipped } = job.progress;
  const all = total ?? processed;
  const values = {
    total: number(all, words),
    processed: number(processed, words),
    succeeded: number(succeeded, words),
    failed: number(failed, words),
    skipped: number(skipped, words),
  };
  const message = job.error ? headline(job.error.message) : "";
  /** @type {Record<string, () => string>} */
  const endings = {
    completed: () =>
      all === 0
        ? say(words, "end_completed_empty")
        : skipped > 0
          ? say(words, "end_completed_skipped", { ...values, count: skipped })
          : say(words, "end_completed", { ...values, count: all }),
    completed_with_errors: () =>
      say(words, skipped > 0 ? "end_errors_skipped" : "end_errors", { ...values, count: all }),
    failed: () =>
      job.error?.code === "all_items_failed" && failed > 0
        ? say(words, skipped > 0 ? "end_failed_skipped" : "end_failed_all", { ...values, count: failed })
        : message
          ? say(words, "end_failed", { message })
          : say(words, "end_failed_plain"),
    cancelled: () =>
      say(words, total === null ? "end_cancelled_open" : "end_cancelled", { ...values, count: all }),
  };
  const end = Object.hasOwn(endings, job.state) ? endings[job.state] : undefined;
  const text = end ? end() : say(words, "end_unknown", { state: harmless(job.state, NAME_LENGTH) });
  const seconds =
    job.started_at && job.finished_at ? (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1_000 : 0;
  return seconds >= 1 ? `${text} ${say(words, "took", { duration: duration(seconds, words) })}` : text;
}

/** Return the first line of a text, shortened. @param {string} text */
function headline(text) {
  return harmless(harmlessLines(text).split("\n")[0] ?? "", MESSAGE_LENGTH);
}

/** Return the whole error of a job whose sentence has only the beginning of it, else null. An item's own error is
 * among the errors of the items. @param {Job} job @returns {ItemLine | null} */
function reason({ error }) {
  const text = harmlessLines(error?.message ?? "");
  if (!error || error.code === "all_items_failed" || text === headline(text)) return null;
  return { name: "", full_name: "", message: text, failed: true, folded: isLong(text), result: null };
}

/** Return how long the job is kept, with the time of day: the text may be read long after it was drawn.
 * @param {Job} job @param {number} now_ms @param {Words} words */
function kept(job, now_ms, words) {
  if (!job.expires_at) return "";
  const left_s = (Date.parse(job.expires_at) - now_ms) / 1_000;
  const { date, time } = dateAndTime(new Date(job.expires_at), new Date(now_ms), words);
  if (left_s <= 0) return say(words, "removed_soon");
  if (left_s < HOUR_S)
    return say(words, "removed_in_minutes", { count: Math.max(1, Math.floor(left_s / 60)), time });
  if (left_s < 24 * HOUR_S) return say(words, "removed_in_hours", { count: Math.floor(left_s / HOUR_S), time });
  return say(words, "kept_until", { date, time });
}

/** Return the indicator of the connection.
 * @param {ViewInput} seen @param {Words} words @returns {JobView["link"]} */
function link(seen, words) {
  const { link: state, job, failure, news_age_ms: age = null } = seen;
  const found = seen.found_by_polling
    ? say(words, state === "ended" ? "end_found_by_polling" : "found_by_polling")
    : "";
  if (state === "ended") return { text: "", tone: "quiet", age: "", found };
  const old = age !== null && age >= (state === "live" ? LIVE_AGE_SHOWN_AFTER_MS : AGE_SHOWN_AFTER_MS);
  const spoken =
    old && state !== "gave_up" ? say(words, "news_age", { duration: duration(age / 1_000, words) }) : "";
  /** @type {Partial<Record<Link, Tone>>} */
  const tones = { live: "good", catching_up: "busy", polling: "busy", connecting: "quiet" };
  const values = {
    id: harmless(seen.id ?? job?.id ?? "", NAME_LENGTH),
    status: failure?.status ?? "",
    duration: duration((age ?? 0) / 1_000, words),
  };
  const tone = isLost(seen) ? "warn" : (tones[state] ?? "quiet");
  return { text: say(words, linkWords(seen), values), tone, age: spoken, found };
}

/** @param {ViewInput} seen */
function linkWords(seen) {
  const { link: state, job, id } = seen;
  if (state === "connecting" && job) return "link_reconnecting";
  if (state === "gave_up" && (job || id)) return "link_gave_up_job";
  return `link_${linkReason(seen)}`;
}

/** @param {ViewInput} seen @param {Words} words @returns {JobView["buttons"]} */
function buttons(
  {
    job,
    link: state,
    checking = false,
    cancelling = false,
    retrying = false,
    retried = false,
    can_create = false,
    removed = false,
    notice = "none",
    now_ms,
  },
  words,
) {
  const open = job !== null && !job.done;
  const possible = job ? actions(job, now_ms, removed) : null;
  const stopping = cancelling || (job?.cancel_requested ?? false);
  return {
    cancel: {
      shown: open && state !== "not_found",
      enabled: !stopping,
      text: say(words, stopping ? "cancelling" : "cancel"),
    },
    check: {
      shown: !job?.done && state !== "gave_up",
      enabled: !checking,
      text: say(words, checking ? "checking" : "check"),
    },
    keep_watching: { shown: state === "gave_up", enabled: !checking, text: say(words, "keep_watching") },
    sign_in: { shown: state === "signed_out", enabled: true, text: say(words, "sign_in") },
    create_new: { shown: state === "not_found" && can_create, enabled: true, text: say(words, "create_new") },
    notify: {
      shown: open && state !== "not_found" && notice !== "none",
      enabled: notice !== "on",
      text: say(words, notice === "on" ? "notify_on" : "notify"),
    },
    retry: {
      shown: (possible?.retry ?? false) && state !== "not_found",
      enabled: !retrying,
      text: retryText(job, retrying, retried, words),
    },
  };
}

/** @param {Job | null} job @param {boolean} retrying @param {boolean} retried @param {Words} words */
function retryText(job, retrying, retried, words) {
  if (job === null || retrying) return say(words, "retrying");
  const count = toRetry(job);
  const { failed } = job.progress;
  const key = retried ? "retry_again" : count === failed ? "retry_failed" : failed === 0 ? "retry_other" : "retry";
  return say(words, key, { count });
}

/** Return the text for a screen reader at each quarter, change of state or connection, and the end, else "".
 * @param {ViewInput | null} before @param {ViewInput} after @param {Words} [words] */
export function announcement(before, after, words = english) {
  const { job } = after;
  if (job?.done) return before?.job?.done ? "" : sentence(job, words);
  const lost = lossOf(after);
  if (lost !== null && lost !== lossOf(before))
    return lost === "offline" ? say(words, "say_link_lost") : link(after, words).text;
  if (lost === null && lossOf(before) !== null && after.link !== "connecting") return say(words, "say_link_back");
  if (!job) return "";
  if (!before?.job || badge(before.job, words).text !== badge(job, words).text) return badge(job, words).text;
  const quarter = (/** @type {ViewInput} */ seen) =>
    Math.floor(((seen.job && barValue(seen.job, seen.floor)) || 0) / 25);
  return quarter(after) > quarter(before)
    ? say(words, "say_percent", { percent: percentText(barValue(job, after.floor) ?? 0, words) })
    : "";
}

/** Return the link that is lost, or null. Reconnecting in vain is as good as offline: one loss is told once.
 * @param {ViewInput | null} seen */
function lossOf(seen) {
  if (seen === null || !isLost(seen)) return null;
  return seen.link === "connecting" ? "offline" : seen.link;
}

/** Return the result of a check in words.
 * @param {{outcome: string, status: number | null}} found @param {Words} [words] */
export function checkText(found, words = english) {
  if (found.outcome !== "failed") return say(words, found.outcome === "same" ? "found_same" : "found_news");
  return found.status === null
    ? say(words, "found_failed")
    : say(words, "found_trouble", { status: String(found.status) });
}

/**
 * Return why a request was refused: in our words where the server's are for programmers, else in the server's.
 * @param {{detail?: unknown, code?: unknown} | null} problem
 * @param {number | null} status
 * @param {Words} [words]
 */
export function refusal(problem, status, words = english) {
  const ours = `refused_${problem?.code}`;
  if (words[ours] ?? english[ours]) return say(words, ours);
  if (typeof problem?.detail === "string" && problem.detail) return harmless(problem.detail, MESSAGE_LENGTH);
  return status === null ? say(words, "no_contact") : say(words, "bad_status", { status: String(status) });
}
