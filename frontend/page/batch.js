/*
 * The batch page: the form for a new job, the list of jobs, and the dialog of one of them. It puts the parts
 * together and decides which dialog is open: the address says it (#job=ID), so a link, the back button and a
 * reload all lead to the same dialog. It closes the list's stream once all its jobs are done. It must not know
 * what the parts show.
 * Next: new-job.js, job-list.js, stuck-jobs.js; ../index.html has the nodes.
 */
import { Follower } from "../client/follower.js";
import { JobProgress } from "../define.js";
import { setShown, setText } from "../element/dom.js";
import { Redraw } from "../element/redraw.js";
import { say } from "../view/format.js";
import { badge, jobTitle, jobView } from "../view/job-view.js";
import { english as words } from "../view/locale/en.js";
import { JobList, JobRows, MAX_ROWS } from "./job-list.js";
import { NewJob } from "./new-job.js";
import { StuckJobs } from "./stuck-jobs.js";

/** @import { Job } from "../wire" */

const API = new URL("../../api/", import.meta.url);
const TITLE = document.title;
const SEARCH_MS = 15_000;
const TROUBLES = ["polling", "offline", "signed_out", "not_found", "gave_up"];

const list = new JobList(API);
const rows = new JobRows(byId("jobs"), words);
const stuckJobs = new StuckJobs({ section: byId("attention"), focusFallback: byId("jobs-title"), words });
const redraw = new Redraw(drawList);
let searchedAt = -Infinity;
/** @type {Follower | null} */ let follower = null;
/** @type {JobProgress | null} */ let open = null;
/** @type {Map<string, Job>} */ const submitted = new Map();

/** @param {string} id @returns {HTMLElement} */
function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`index.html has no element #${id}`);
  return node;
}

// --- the list
/** Follow the list anew, which polls at once. */
function watchList() {
  follower?.close();
  const following = new Follower({ subject: list });
  follower = following;
  following.addEventListener("change", () => redraw.schedule());
  following.start();
}

function drawList() {
  const jobs = list.jobs;
  rows.draw(jobs);
  stuckJobs.draw(jobs);
  setText(byId("jobs-empty"), say(words, "no_jobs"));
  setShown(byId("jobs-empty"), list.loaded && jobs.length === 0);
  setShown(byId("more"), list.more && !list.full);
  setText(byId("list-full"), list.more && list.full ? say(words, "list_full", { count: MAX_ROWS }) : "");
  const link = follower?.link ?? "ended";
  const trouble = TROUBLES.includes(link) && link !== "polling";
  const text = trouble
    ? jobView({ job: null, link, failure: follower?.failure ?? null, browser_offline: !navigator.onLine }, words)
        .link.text
    : "";
  setText(byId("list-trouble"), trouble ? say(words, "list_trouble", { text }) : "");
  setShown(byId("list-trouble"), trouble);
  if (link === "polling" && performance.now() - searchedAt > SEARCH_MS) void findStuckJobs();
}

/** Find stuck jobs that are older than those listed: the stream reports them, but polls of the list do not. */
async function findStuckJobs() {
  searchedAt = performance.now();
  const body = await fetch(new URL("jobs?health=waiting_long,stalled,unresponsive&limit=200", API))
    .then((answer) => answer.json())
    .catch(() => null);
  if (!Array.isArray(body?.jobs) || body.jobs.length === 0) return; // the list itself shows trouble
  for (const job of body.jobs) list.add(job);
  if (follower?.link === "ended") watchList();
  drawList();
}

// --- the dialog
/** Open the dialog named in the address, and close any other. */
function syncWithAddress() {
  const id = /^#job=([\w-]{1,64})$/.exec(location.hash)?.[1] ?? null;
  const src = id === null ? null : new URL(`jobs/${id}`, API).href;
  if (open && open.src === src) return;
  open?.close();
  if (id !== null && src !== null)
    openDialog(id, src, submitted.get(id) ?? list.jobs.find((job) => job.id === id) ?? null);
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

/** Show the state in the tab's title too. @param {Job | null} job */
function drawTitle(job) {
  if (!job) return;
  const shown = jobView({ job, link: "live" }, words);
  const state = job.done ? badge(job, words).text : shown.percent || shown.badge.text;
  document.title = say(words, "page_title", { state, name: jobTitle(job, words) });
}

// --- start
/** @param {Job} job */
function onStarted(job) {
  submitted.set(job.id, job);
  list.add(job);
  watchList();
  drawList();
  location.hash = `job=${job.id}`;
}

function onShown() {
  if (document.visibilityState !== "visible" || follower?.link !== "ended") return;
  watchList();
  void findStuckJobs();
}

setText(byId("more"), say(words, "more_jobs"));
byId("more").addEventListener("click", () => {
  list.widen();
  watchList();
});
window.addEventListener("hashchange", syncWithAddress);
document.addEventListener("visibilitychange", onShown);
window.addEventListener("pageshow", (event) => event.persisted && onShown());
const newJob = new NewJob({ api: API, byId, words, onStarted, onBroken: watchList });
watchList();
void findStuckJobs();
syncWithAddress();
