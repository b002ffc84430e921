/*
 * The batch page: starting a job (new-job.js), the list of jobs, and the dialog of one of them. It puts
 * the parts together and decides what is open: the address says it (#job=ID), so a link, the back button
 * and a reload all lead to the same dialog. The list's stream is closed as soon as all its jobs are done.
 */
import { Attention } from "./stuck-jobs.js";
import { JobProgress } from "../define.js";
import { setShown, setText } from "../element/dom.js";
import { Follow } from "../client/follower.js";
import { Frame } from "../element/redraw.js";
import { JobList, JobRows, MOST_ROWS } from "./job-list.js";
import { NewJob } from "./new-job.js";
import { say } from "../view/format.js";
import { badge, jobTitle, view } from "../view/job-view.js";
import { english as words } from "../view/locale/en.js";

/** @import { Job } from "../wire" */

const API = new URL("../../api/", import.meta.url);
const TITLE = document.title;
const LOOK_MS = 15_000;
const TROUBLES = ["polling", "offline", "signed_out", "not_found", "gave_up"];

const list = new JobList(API);
const rows = new JobRows(byId("jobs"), words);
const attention = new Attention({ section: byId("attention"), elsewhere: byId("jobs-title"), words });
const frame = new Frame(drawList);
let lookedAt = -Infinity;
/** @type {Follow | null} */ let follow = null;
/** @type {JobProgress | null} */ let open = null;
/** @type {Map<string, Job>} */ const submitted = new Map();

/** @param {string} id @returns {HTMLElement} */
function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`index.html has no element #${id}`);
  return node;
}

// --- the list
/** Follow the list, or ask at once where it is followed already. */
function watchList() {
  follow?.close();
  const following = new Follow({ subject: list });
  follow = following;
  following.addEventListener("change", () => frame.soon());
  following.start();
}

function drawList() {
  const jobs = list.jobs;
  rows.draw(jobs);
  attention.draw(jobs);
  setText(byId("jobs-empty"), say(words, "no_jobs"));
  setShown(byId("jobs-empty"), list.loaded && jobs.length === 0);
  setShown(byId("more"), list.more && !list.full);
  setText(byId("list-full"), list.more && list.full ? say(words, "list_full", { count: MOST_ROWS }) : "");
  const link = follow?.link ?? "ended";
  const trouble = TROUBLES.includes(link) && link !== "polling";
  const text = trouble ? view({ job: null, link, failure: follow?.failure ?? null, browser_offline: !navigator.onLine }, words).link.text : "";
  setText(byId("list-trouble"), trouble ? say(words, "list_trouble", { text }) : "");
  setShown(byId("list-trouble"), trouble);
  if (link === "polling" && performance.now() - lookedAt > LOOK_MS) void lookForStuck();
}

/** A job that is stuck may be older than those that are listed: a stream tells of it, but a poll does not. */
async function lookForStuck() {
  lookedAt = performance.now();
  const body = await fetch(new URL("jobs?health=waiting_long,stalled,unresponsive&limit=200", API)).then((answer) => answer.json()).catch(() => null);
  if (!Array.isArray(body?.jobs) || body.jobs.length === 0) return; // whether the server answers at all, the list shows
  for (const job of body.jobs) list.add(job);
  if (follow?.link === "ended") watchList();
  drawList();
}

// --- the dialog
/** Open the dialog that the address names, and close any other. */
function followAddress() {
  const id = /^#job=([\w-]{1,64})$/.exec(location.hash)?.[1] ?? null;
  const src = id === null ? null : new URL(`jobs/${id}`, API).href;
  if (open && open.src === src) return;
  open?.close();
  if (id !== null && src !== null) openDialog(id, src, submitted.get(id) ?? list.jobs.find((job) => job.id === id) ?? null);
}

/** @param {string} id @param {string} src @param {Job | null} known */
function openDialog(id, src, known) {
  const dialog = new JobProgress();
  dialog.src = src;
  dialog.toggleAttribute("modal", true);
  dialog.job = known;
  dialog.setAttribute("create", "");
  dialog.addEventListener("create", (event) => {
    event.preventDefault();
    dialog.close();
    newJob.again(id, dialog.job?.kind ?? null);
  });
  dialog.addEventListener("retry", (event) => onStarted(/** @type {CustomEvent} */ (event).detail.job));
  dialog.addEventListener("progress", () => drawTitle(dialog.job));
  dialog.addEventListener("done", () => list.add(/** @type {Job} */ (dialog.job)));
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (open !== dialog) return;
    open = null;
    document.title = TITLE;
    if (location.hash.startsWith("#job=")) history.replaceState(null, "", location.pathname + location.search);
    drawList();
  });
  open = dialog;
  document.body.append(dialog);
}

/** The tab tells the state too, for those who work in another one meanwhile. @param {Job | null} job */
function drawTitle(job) {
  if (!job) return;
  const shown = view({ job, link: "live" }, words);
  const state = job.done ? badge(job, words).text : shown.percent || shown.badge.text;
  document.title = say(words, "page_title", { state, name: jobTitle(job, words) });
}

// --- all together
/** @param {Job} job */
function onStarted(job) {
  submitted.set(job.id, job);
  list.add(job);
  watchList();
  drawList();
  location.hash = `job=${job.id}`;
}

function onShown() {
  if (document.visibilityState !== "visible" || follow?.link !== "ended") return;
  watchList();
  void lookForStuck();
}

setText(byId("more"), say(words, "more_jobs"));
byId("more").addEventListener("click", () => {
  list.widen();
  watchList();
});
window.addEventListener("hashchange", followAddress);
document.addEventListener("visibilitychange", onShown);
window.addEventListener("pageshow", (event) => event.persisted && onShown());
const newJob = new NewJob({ api: API, byId, words, onStarted, onBroken: watchList });
watchList();
void lookForStuck();
followAddress();
