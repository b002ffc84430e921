/*
 * Decides whether the page has lost contact with the server, so that what it shows may be old, and says so in the
 * few words of a badge.
 * It must not know the DOM, a clock, or what the job was doing.
 * See also: job-view.js, which shows these words in place of the job's state; ../wire.d.ts for the links.
 */
import { duration, say } from "./format.js";
import { english } from "./locale/en.js";

/** @import { Link, Words } from "../wire" */

/** @typedef {object} Contact
 * @property {Link} link
 * @property {number | null} [news_age_ms] since the state was last confirmed, or null before the first time
 * @property {{status: number | null, code: string | null} | null} [failure] of the last poll
 * @property {boolean} [browser_offline] */

const LOST = ["offline", "signed_out", "not_found", "gave_up"];
const AGELESS = ["signed_out", "not_found"]; // the reason says more than the time
const RECONNECTED_WITHIN_MS = 5_000; // a shorter break changes nothing on the screen

/** Return whether the state shown may be old. @param {Contact} seen */
export function isLost({ link, news_age_ms: age = null }) {
  return LOST.includes(link) || (link === "connecting" && age !== null && age >= RECONNECTED_WITHIN_MS);
}

/** Return how old the state shown is for lack of contact, in milliseconds: 0 while there is contact.
 * @param {Contact} seen */
export function staleness(seen) {
  return isLost(seen) ? (seen.news_age_ms ?? 0) : 0;
}

/** Return the link, and for a server that is out of reach the reason, as the end of a key of the texts.
 * @param {Contact} seen */
export function linkReason({ link, failure, browser_offline }) {
  if (link !== "offline") return link;
  if (browser_offline) return "browser_offline";
  if (failure?.code === "not_our_answer") return "garbage";
  return failure?.status ? "trouble" : "offline";
}

/** Return the badge that replaces the state of an unfinished job while contact is lost, or null.
 * @param {Contact} seen @param {Words} [words] @returns {{text: string, tone: "lost"} | null} */
export function lostBadge(seen, words = english) {
  if (!isLost(seen)) return null;
  return { text: say(words, `lost_${linkReason(seen)}`), tone: "lost" };
}

/** Return that badge with the time since the last news. @param {Contact} seen @param {Words} [words] */
export function lostSinceBadge(seen, words = english) {
  const lost = lostBadge(seen, words);
  if (lost === null || seen.news_age_ms == null || AGELESS.includes(seen.link)) return lost;
  const values = { text: lost.text, duration: duration(seen.news_age_ms / 1_000, words) };
  return { ...lost, text: say(words, "lost_since", values) };
}
