/*
 * Puts the batch page together: the form for a new job, the list of jobs, and the dialog of one of them. The
 * address decides which dialog is open (#job=ID), so a link, the back button and a reload lead to the same one.
 * It must not know what the parts show.
 * See also: new-job.js, job-list.js, stuck-jobs.js; ../index.html for the nodes.
 */
import { Follower } from "../client/follower.js";
import { JobProgress } from "../define.js";
import { setShown, setText } from "../element/dom.js";
import { Redraw } from "../element/redraw.js";
import { say } from "../view/format.js";
import { badge, jobTitle, jobView } from "../view/job-view.js";
import { english } from "../view/locale/en.js";
import { JobList, JobRows, MAX_ROWS } from "./job-list.js";
import { NewJob } from "./new-job.js";
import { StuckJobs } from "./stuck-jobs.js";

/** @import { Job, Kind, Words } from "../wire" */

/** The texts of this page: English, and the titles of the server's kinds once they are known. @type {Words} */
const words = { ...english };
JobProgress.words = words;
const API = new URL("../../api/", import.meta.url);
const TITLE = document.title;
const SEARCH_MS = 15_000;
const TROUBLES = ["offline", "signed_out", "not_found", "gave_up"]; // links that are reported above the list

for (const node of document.querySelectorAll("[data-words]"))
  setText(node, say(words, node.getAttribute("data-words") ?? ""));

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
/** Follow the list anew. This polls at once. */
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
  setShown(byId("jobs-empty"), list.loaded && jobs.length === 0);
  setShown(byId("more"), list.more && !list.full);
  setText(byId("list-full"), list.more && list.full ? say(words, "list_full", { count: MAX_ROWS }) : "");
  const link = follower?.link ?? "ended";
  const trouble = TROUBLES.includes(link);
  const text = trouble
    ? jobView({ job: null, link, failure: follower?.failure ?? null, browser_offline: !navigator.onLine }, words)
        .link.text
    : "";
  setText(byId("list-trouble"), trouble ? say(words, "list_trouble", { text }) : "");
  setShown(byId("list-trouble"), trouble);
  if (link === "polling" && performance.now() - searchedAt > SEARCH_MS) void findStuckJobs();
}

/** Find stuck jobs that are older than those listed: the stream names them, but polls of the list do not. */
async function findStuckJobs() {
  searchedAt = performance.now();
  const body = await fetch(new URL("jobs?health=waiting_long,stalled,unresponsive&limit=200", API))
    .then((answer) => answer.json())
    .catch(() => null);
  if (!Array.isArray(body?.jobs) || body.jobs.length === 0) return; // trouble is reported by the list's follower
  for (const job of body.jobs) list.add(job);
  if (follower?.link === "ended") watchList();
  drawList();
}

// --- the dialog
/** Open the dialog that the address names, and close any other. */
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

/** Show the state in the title of the tab. @param {Job | null} job */
function drawTitle(job) {
  if (!job) return;
  const shown = jobView({ job, link: "live" }, words);
  const state = job.done ? badge(job, words).text : shown.percent || shown.badge.text;
  document.title = say(words, "page_title", { state, name: jobTitle(job, words) });
}

// --- start
/** List a job that this page has started, and open its dialog. @param {Job} job */
function onStarted(job) {
  submitted.set(job.id, job);
  list.add(job);
  watchList();
  drawList();
  location.hash = `job=${job.id}`;
}

/** Show kinds by their titles from now on. @param {Kind[]} kinds */
function onKinds(kinds) {
  for (const { name, title } of kinds) words[`kind:${name}`] = title;
  rows.renew();
  drawList();
  open?.redraw();
}

function onShown() {
  if (document.visibilityState !== "visible" || follower?.link !== "ended") return;
  watchList();
  void findStuckJobs();
}

byId("more").addEventListener("click", () => {
  list.widen();
  watchList();
});
window.addEventListener("hashchange", syncWithAddress);
document.addEventListener("visibilitychange", onShown);
window.addEventListener("pageshow", (event) => event.persisted && onShown());
const newJob = new NewJob({ api: API, byId, words, onStarted, onKinds, onBroken: watchList });
watchList();
void findStuckJobs();
syncWithAddress();
