/*
 * Puts the batch page together: the form for a new job, the list of jobs, and the dialog of one of them. The
 * address decides which dialog is open (#job=ID), so a link, the back button and a reload lead to the same one.
 * The list is followed while the page is visible.
 * It must not know what the parts show.
 * See also: new-job.js, job-list.js, stuck-jobs.js; ../index.html for the nodes.
 */
import { Follower } from "../client/follower.js";
import { Requests } from "../client/requests.js";
import { JobProgress } from "../define.js";
import { setShown, setText } from "../element/dom.js";
import { Redraw } from "../element/redraw.js";
import { isLost, lostBadge, staleness } from "../view/contact.js";
import { harmless, say } from "../view/format.js";
import { badge, jobTitle, jobView, refusal } from "../view/job-view.js";
import { english } from "../view/locale/en.js";
import { FilterForm } from "./filter-form.js";
import { filterIn, withFilter } from "./job-filter.js";
import { JobList, JobRows } from "./job-list.js";
import { NewJob } from "./new-job.js";
import { StuckJobs } from "./stuck-jobs.js";

/** @import { Job, Kind, Link, Words } from "../wire" */
/** @import { Contact } from "../view/contact.js" */

/** The texts, to which the titles of the kinds are added. @type {Words} */
const words = (JobProgress.words = Object.create(english));
const API = new URL("../../api/", import.meta.url);
const TITLE = document.title;
const SEARCH_MS = 15_000;
const AGE_MS = 1_000;
const RETURN_MS = 1_000; // a page that is shown again is usually live within a fraction of this

for (const node of document.querySelectorAll("[data-words]"))
  setText(node, say(words, node.getAttribute("data-words") ?? ""));

let list = new JobList(API, onGone, filterIn(location.search));
const rows = new JobRows(byId("jobs"), words);
const requests = new Requests();
const stuckJobs = new StuckJobs({
  section: byId("attention"),
  focusFallback: byId("jobs-title"),
  requests,
  words,
});
const filterForm = new FilterForm({ byId, words, filter: filterIn(location.search), onChange: onFilter });
const redraw = new Redraw(drawList);
let searchedAt = -Infinity;
let uploaded = ""; // percent, while files are being sent
/** @type {Follower | null} */ let follower = null;
/** When the list was last known to be true, and when its follower was started (steady clock). */
let [confirmedAt, followedAt] = [performance.now(), 0];
/** @type {ReturnType<typeof setInterval> | null} */ let ageing = null;
let moreProblem = "";
/** @type {JobProgress | null} */ let open = null;
let leaving = false; // the browser is on its way back to the list
/** @type {Map<string, Job>} */ const submitted = new Map();

/** @param {string} id @returns {HTMLElement} */
function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`index.html has no element #${id}`);
  return node;
}

// --- the list
/** Follow the list while the page is visible; what a hidden page misses, the first poll brings. */
function watchWhileVisible() {
  if (document.visibilityState === "hidden") return stopWatching();
  if (follower) return;
  const following = new Follower({ subject: list });
  [follower, followedAt] = [following, performance.now()];
  following.addEventListener("change", () => redraw.schedule());
  following.start();
  void findStuckJobs();
}

function stopWatching() {
  const age = follower?.newsAgeMs;
  if (age != null) confirmedAt = performance.now() - age;
  follower?.close();
  follower = null;
  ageList(false);
}

/** Return the milliseconds since the list was known to be true, or null if a new follower is to tell in a moment. */
function newsAge() {
  const now = performance.now();
  if (follower?.newsAgeMs != null) return follower.newsAgeMs;
  return list.loaded && now - followedAt >= RETURN_MS ? now - confirmedAt : null;
}

function drawList() {
  const jobs = list.jobs;
  const contact = {
    link: follower?.link ?? "connecting",
    news_age_ms: newsAge(),
    failure: follower?.failure ?? null,
    browser_offline: !navigator.onLine,
  };
  rows.draw(jobs, lostBadge(contact, words));
  stuckJobs.draw(list.held, lostBadge(contact, words), staleness(contact));
  filterForm.draw({ count: jobs.length, loaded: list.loaded, more: list.more });
  setShown(byId("jobs-empty"), list.loaded && jobs.length === 0 && !list.filtered);
  setText(byId("list-full"), moreProblem);
  const lost = drawTrouble(contact);
  setText(byId("more"), say(words, list.searching ? "more_matches" : "more_jobs"));
  showMore(list.more);
  const name = uploaded
    ? say(words, "page_title", { state: uploaded, name: say(words, "uploading_title") })
    : TITLE;
  if (!open) document.title = lost ? say(words, "page_title_lost", { title: name }) : name;
  ageList(follower !== null && !["live", "gave_up", "not_found"].includes(contact.link));
  if (contact.link === "polling" && performance.now() - searchedAt > SEARCH_MS) void findStuckJobs();
}

/** Say above the list that contact is lost. Return whether it is. @param {Contact} contact */
function drawTrouble(contact) {
  const { link, buttons } = jobView({ job: null, ...contact }, words);
  const lost = isLost(contact);
  setText(byId("list-trouble-text"), lost ? say(words, "list_trouble", { text: link.text }) : "");
  setText(byId("list-age"), lost ? link.age : ""); // not in the live region, which would tell it every second
  const check = buttons.keep_watching.shown ? buttons.keep_watching : buttons.check;
  setText(byId("list-check"), check.text);
  setShown(byId("list-trouble"), lost);
  return lost;
}

/** Redraw every second, while the age of the list matters. @param {boolean} on */
function ageList(on) {
  if (on === (ageing !== null)) return;
  if (ageing !== null) clearInterval(ageing);
  ageing = on ? setInterval(() => redraw.schedule(), AGE_MS) : null;
}

/** Show or hide the button; with it, the focus goes to the heading rather than to the top of the page.
 * @param {boolean} shown */
function showMore(shown) {
  const button = byId("more");
  const focused = document.activeElement === button;
  setShown(button, shown);
  if (focused && !shown) byId("jobs-title").focus();
}

async function loadMore() {
  const button = byId("more");
  if (!follower || button.hasAttribute("aria-busy")) return;
  const before = new Set(list.jobs.map((job) => job.id));
  const focused = document.activeElement === button;
  button.setAttribute("aria-busy", "true");
  const reason = await (list.olderUrl === null ? loadNewer(follower) : loadOlder(list.olderUrl));
  button.removeAttribute("aria-busy");
  moreProblem = reason ? say(words, "more_failed", { reason }) : "";
  drawList();
  const first = list.jobs.find((job) => !before.has(job.id));
  if (focused && first && document.activeElement === byId("jobs-title")) rows.focus(first.id); // read on there
}

/** Show other jobs from now on. The address names them too, so that a reload and a link do.
 * @param {import("./job-filter.js").Filter} filter */
function onFilter(filter) {
  history.replaceState(history.state, "", location.pathname + withFilter(location.search, filter) + location.hash);
  const { held } = list;
  list = new JobList(API, onGone, filter);
  for (const job of held) list.add(job);
  moreProblem = "";
  stopWatching();
  watchWhileVisible();
  drawList();
}

/** @param {string} id */
function onGone(id) {
  if (open?.src === srcOf(id)) void open.check();
}

/** Have the next polls return one page more. Return why that failed, or "". @param {Follower} follower */
async function loadNewer(follower) {
  list.widen();
  const found = await follower.check();
  return found.outcome === "failed" ? refusal(null, found.status, words) : "";
}

/** Load jobs that no poll returns. Return why that failed, or "". @param {string} url */
async function loadOlder(url) {
  const answer = await requests.send(url);
  if (!answer) return "";
  if (!answer.ok || !Array.isArray(answer.body.jobs)) return refusal(answer.body, answer.status, words);
  list.addOlder(answer.body);
  return "";
}

/** Find stuck jobs that are older than those listed: the stream names them, but polls of the list do not. */
async function findStuckJobs() {
  searchedAt = performance.now();
  const url = new URL("jobs?health=waiting_long,stalled,unresponsive&limit=200", API).href;
  const [answer] = (await requests.poll("stuck jobs", url)) ?? [];
  if (!Array.isArray(answer?.body?.jobs) || answer.body.jobs.length === 0) return; // the follower reports trouble
  for (const job of answer.body.jobs) list.add(job);
  drawList();
}

// --- the dialog
/** @param {string} id */
function srcOf(id) {
  return new URL(`jobs/${id}`, API).href;
}

/** Open the dialog that the address names, and close any other. */
function syncWithAddress() {
  const id = idIn(location.hash);
  if (open && open.src === (id && srcOf(id))) return;
  const before = open;
  open = null;
  before?.close();
  if (id) openDialog(id, submitted.get(id) ?? list.held.find((job) => job.id === id) ?? null);
  else drawList();
}

/** Return the job in the hash of an address, or null. @param {string} hash */
function idIn(hash) {
  return /^#job=([\w-]{1,64})$/.exec(hash)?.[1] ?? null;
}

/** Make an entry in the history for a dialog, and open it. The entry says whether the list lies below it.
 * @param {string} id */
function goTo(id) {
  if (leaving) return window.addEventListener("popstate", () => goTo(id), { once: true });
  history.pushState({ overList: !open }, "", `#job=${id}`);
  syncWithAddress();
}

/** Remove the dialog from the address: go back to the list, or replace an entry that no list lies below. An equal
 * entry in its place would make the next "Back" seem dead. */
function leaveAddress() {
  if (!idIn(location.hash)) return;
  const { overList } = history.state ?? {};
  history.replaceState(null, "", location.pathname + location.search);
  if (!overList) return;
  leaving = true;
  window.addEventListener("popstate", () => (leaving = false), { once: true, capture: true });
  history.back();
}

/** @param {string} id @param {Job | null} known */
function openDialog(id, known) {
  const dialog = new JobProgress();
  dialog.src = srcOf(id);
  dialog.toggleAttribute("modal", true);
  dialog.job = known;
  dialog.setAttribute("create", "");
  dialog.addEventListener("create", (event) => {
    event.preventDefault();
    dialog.close();
    newJob.again(id, dialog.job?.kind ?? null);
  });
  dialog.addEventListener("show", (event) => {
    event.preventDefault();
    const { job } = /** @type {CustomEvent} */ (event).detail;
    submitted.set(job.id, job);
    goTo(job.id);
  });
  dialog.addEventListener("retry", (event) => onStarted(/** @type {CustomEvent} */ (event).detail.job));
  dialog.addEventListener("progress", (event) => drawTitle(dialog.job, /** @type {any} */ (event).detail.link));
  dialog.addEventListener("done", () => list.add(/** @type {Job} */ (dialog.job)));
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (open !== dialog) return;
    open = null;
    leaveAddress();
    drawList();
  });
  open = dialog;
  document.body.append(dialog);
}

/** Show the state in the title of the tab. @param {Job | null} job @param {Link} link */
function drawTitle(job, link) {
  if (!job) return;
  const shown = jobView({ job, link: "live" }, words);
  const state = job.done ? badge(job, words).text : shown.percent || shown.badge.text;
  const title = say(words, "page_title", { state, name: jobTitle(job, words) });
  document.title = !job.done && isLost({ link }) ? say(words, "page_title_lost", { title }) : title;
}

// --- start
/** List a job that this page has started, and open its dialog. @param {Job} job */
function onStarted(job) {
  submitted.set(job.id, job);
  list.add(job);
  drawList();
  goTo(job.id);
}

/** Name the kinds by their titles from now on. @param {Kind[]} kinds */
function onKinds(kinds) {
  for (const { name, title } of kinds) words[`kind:${name}`] = harmless(title || name);
  drawList();
  open?.redraw();
}

/** @param {string} percent */
function onUpload(percent) {
  uploaded = percent;
  drawList(); // and the title
}

/** A plain click on the link of a job opens its dialog, as the address in it does in another tab.
 * @param {MouseEvent} event */
function onClick(event) {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  const id = idIn(link?.hash ?? "");
  if (!id || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  goTo(id);
}

byId("more").addEventListener("click", () => loadMore());
byId("list-check").addEventListener("click", () => follower?.check());
document.addEventListener("click", onClick);
window.addEventListener("hashchange", syncWithAddress);
document.addEventListener("visibilitychange", watchWhileVisible);
window.addEventListener("pageshow", (event) => event.persisted && watchWhileVisible());
const newJob = new NewJob({
  api: API,
  byId,
  words,
  requests,
  onStarted,
  onBroken: () => void follower?.check(),
  onKinds,
  onDropped: () => open?.close(),
  onUpload,
});
watchWhileVisible();
syncWithAddress();
