/*
 * Shows a system notification at the end of a job, if requested by a click. It decides when that is possible, and
 * never asks for permission unprompted.
 * It must not know the dialog: it follows the job itself, so the notification appears even after the dialog was
 * closed. The stream is shared, so this costs no connection.
 * See also: ../client/follower.js; ../view/job-view.js for the sentence.
 */
import { Follower } from "../client/follower.js";
import { JobSubject } from "../client/job-subject.js";
import { say } from "../view/format.js";
import { jobTitle, sentence } from "../view/job-view.js";

/** @import { Job, Words } from "../wire" */

/** The followers of jobs to notify about, by URL. @type {Map<string, Follower>} */
const waiting = new Map();
/** True if the browser has notifications but does not let pages show them, like Chrome for Android. */
let unsupported = false;

/**
 * Return whether a notification can be requested, is requested, or is impossible.
 * @param {string} url
 * @returns {"offer" | "on" | "none"}
 */
export function notificationState(url) {
  if (waiting.has(url)) return "on";
  if (typeof Notification === "undefined" || Notification.permission === "denied" || unsupported) return "none";
  return "offer";
}

/** Request a notification; call this on a click only. Resolves to false if none can be shown.
 * @param {{url: string, job: Job, words: Words, fetch: typeof globalThis.fetch}} options */
export async function notifyAtEnd({ url, job, words, fetch }) {
  if (notificationState(url) === "none" || (await Notification.requestPermission()) !== "granted") return false;
  // The first notification confirms the request and proves that the browser allows it. The last one replaces it.
  if (!show(job, say(words, "notice_on"), words)) return false;
  if (waiting.has(url)) return true;
  const subject = new JobSubject(url, job);
  const follower = new Follower({ subject, fetch });
  waiting.set(url, follower);
  follower.addEventListener("change", () => {
    const gone = follower.link === "not_found";
    if (!subject.job?.done && !gone) return;
    waiting.delete(url);
    follower.close();
    if (subject.job?.done) show(subject.job, sentence(subject.job, words), words);
  });
  follower.start();
  return true;
}

/** @param {Job} job @param {string} body @param {Words} words */
function show(job, body, words) {
  try {
    const notice = new Notification(jobTitle(job, words), { body, tag: job.id });
    notice.addEventListener("click", () => {
      window.focus();
      notice.close();
    });
    return true;
  } catch {
    unsupported = true; // shown by the caller
    return false;
  }
}
