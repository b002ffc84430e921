/*
 * Shows a system notification at the end of a job, if requested by a click; it decides when that is possible, and
 * never asks for permission unprompted. It must not know the dialog: it follows the job itself, so the
 * notification comes even when the dialog is closed. The stream is shared, so this costs no connection.
 * Next: ../client/follower.js; ../view/job-view.js for the sentence.
 */
import { Follower } from "../client/follower.js";
import { JobSubject } from "../client/job-subject.js";
import { say } from "../view/format.js";
import { jobTitle, sentence } from "../view/job-view.js";

/** @import { Job, Words } from "../wire" */

/** The jobs to notify about, by URL. @type {Map<string, Follower>} */
const waiting = new Map();
/** The browser has notifications but does not let pages show them, like Chrome for Android. */
let unable = false;

/**
 * Whether a notification can be requested, is requested, or is impossible.
 * @param {string} url
 * @returns {"offer" | "on" | "none"}
 */
export function notificationState(url) {
  if (waiting.has(url)) return "on";
  return typeof Notification === "undefined" || Notification.permission === "denied" || unable ? "none" : "offer";
}

/** Request a notification; call it on a click only. Resolves to whether it will come.
 * @param {{url: string, job: Job, words: Words, fetch: typeof globalThis.fetch}} options */
export async function notifyAtEnd({ url, job, words, fetch }) {
  if (notificationState(url) === "none" || (await Notification.requestPermission()) !== "granted") return false;
  // The first notification confirms the request and shows whether the browser allows it. The last one replaces it.
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
    unable = true; // the caller tells the person
    return false;
  }
}
