/*
 * Tells the end of a job by a notification of the system, where somebody asked for it by a click. It decides
 * when that is possible, and never asks for permission by itself. It follows the job on its own, so the notice
 * comes even when the dialog is closed; the stream is shared, so that costs no connection. Words: view.js.
 */
import { Follow, OneJob } from "../client/follower.js";
import { say } from "../view/format.js";
import { jobTitle, sentence } from "../view/job-view.js";

/** @import { Job, Words } from "../wire" */

/** Jobs that somebody waits for. @type {Map<string, Follow>} */
const waiting = new Map();
/** This browser knows notifications but lets no page show one, as Chrome for Android does. */
let unable = false;

/** Whether a notice may be asked for, is on, or cannot be had. @param {string} url @returns {"offer" | "on" | "none"} */
export function noticeOf(url) {
  if (waiting.has(url)) return "on";
  return typeof Notification === "undefined" || Notification.permission === "denied" || unable ? "none" : "offer";
}

/** To be called on a click and nowhere else. Answers whether the notice will come.
 * @param {{url: string, job: Job, words: Words, fetch: typeof globalThis.fetch}} wish */
export async function notifyAtEnd({ url, job, words, fetch }) {
  if (noticeOf(url) === "none" || (await Notification.requestPermission()) !== "granted") return false;
  // This one says that it works, and finds out whether it does; the last one takes its place.
  if (!show(job, say(words, "notice_on"), words)) return false;
  if (waiting.has(url)) return true;
  const subject = new OneJob(url, job);
  const follow = new Follow({ subject, fetch });
  waiting.set(url, follow);
  follow.addEventListener("change", () => {
    const gone = follow.link === "not_found";
    if (!subject.job?.done && !gone) return;
    waiting.delete(url);
    follow.close();
    if (subject.job?.done) show(subject.job, sentence(subject.job, words), words);
  });
  follow.start();
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
    unable = true; // said to the person by the caller
    return false;
  }
}
