/*
 * Shows the stuck jobs of the batch page ("Needs attention"): what is known of each, and what an operator can do:
 * restart its running files, or give up on the job. Both are confirmed in place.
 * It must not know how jobs are followed.
 * See also: ../view/health.js; PROTOCOL.md for the operator's requests.
 */
import { icon, make, setShown, setText } from "../element/dom.js";
import { duration, harmless, say, withUnit } from "../view/format.js";
import { actions } from "../view/actions.js";
import { healthFact, serverNow, isStuck } from "../view/health.js";
import { jobTitle, refusal } from "../view/job-view.js";
import { english } from "../view/locale/en.js";

/** @import { Item, Job, Words } from "../wire" */
/** @import { Requests } from "../client/requests.js" */
/** @typedef {ReturnType<typeof makeRow>} Row */
/**
 * @typedef {{seq: number, at_ms: number, job: Job | null, items: Item[]}} Running the running items, and when they
 *   were requested
 */
/** @typedef {{text: string, tone: string} | null} Lost the badge of an unfinished job without contact */

const MAX_ROWS = 5;
const AGE_MS = 5_000; // between two updates of the durations
const REFRESH_MS = 15_000; // the stream does not report heartbeats of workers, so they are polled
const CHANGED_MS = 3_000; // between two requests for a job that changes
const MESSAGE_MS = 15_000; // the message about an action stays for this long
const MAX_ITEMS = 200; // more than any machine processes at once
const WHY_LENGTH = 500;
const NAME_LENGTH = 48;

/** The section "Needs attention". */
export class StuckJobs {
  /** @type {Map<string, Row>} */ #rows = new Map();
  /** @type {Map<string, Job>} */ #jobs = new Map();
  #section;
  #list = make("ul", { class: "stuck" });
  #more = make("p", { class: "hint" });
  #message = make("p", { class: "hint", role: "status" });
  /** @type {ReturnType<typeof setInterval> | null} */ #ageing = null;
  /** @type {ReturnType<typeof setTimeout> | null} */ #messageTimer = null;
  /** @type {Words} */ #words;
  #focusFallback;
  #requests;
  /** @type {Lost} */ #lost = null;
  /** Milliseconds by which everything here may be out of date: 0 with contact. */ #stale_ms = 0;

  /**
   * @param {{section: HTMLElement, focusFallback: HTMLElement, requests: Requests, words?: Words}} page
   *   `focusFallback` takes the focus when the section disappears
   */
  constructor({ section, focusFallback, requests, words = english }) {
    this.#section = section;
    this.#requests = requests;
    this.#focusFallback = focusFallback;
    this.#words = words;
    const title = make("h2", { id: "attention-title", tabindex: "-1" }, icon("warn"), say(words, "attention"));
    section.append(title, this.#list, this.#more, this.#message);
  }

  /** Draw the jobs that are stuck. @param {Job[]} jobs @param {Lost} [lost] @param {number} [stale_ms] */
  draw(jobs, lost = null, stale_ms = 0) {
    [this.#lost, this.#stale_ms] = [lost, stale_ms];
    this.#jobs = new Map(jobs.map((job) => [job.id, job]));
    const found = jobs.filter(isStuck);
    const shown = found.slice(0, MAX_ROWS);
    const listed = new Set(shown.map((job) => job.id));
    for (const [id, row] of this.#rows) if (!listed.has(id) && row.ask.hidden) this.#drop(id, row);
    for (const job of shown) if (!this.#rows.has(job.id)) this.#add(job);
    setText(
      this.#more,
      found.length > MAX_ROWS ? say(this.#words, "attention_more", { count: found.length - MAX_ROWS }) : "",
    );
    setShown(this.#more, found.length > MAX_ROWS);
    this.#age();
    this.#updateSection();
  }

  /** @param {Job} job */
  #add(job) {
    const row = makeRow(job, this.#words);
    this.#rows.set(job.id, row);
    this.#list.append(row.item);
    row.rescue.addEventListener("click", () => this.#open(job.id, row, "rescue"));
    row.giveUp.addEventListener("click", () => this.#open(job.id, row, "give_up"));
    row.keepWaiting.addEventListener("click", () => this.#close(job.id, row));
    row.ask.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit(job.id, row);
    });
    row.ask.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#close(job.id, row);
    });
  }

  /** @param {string} id @param {Row} row */
  #drop(id, row) {
    const focused = row.item.contains(document.activeElement);
    row.item.remove();
    this.#rows.delete(id);
    if (focused) (this.#rows.size > 0 ? this.#section.querySelector("h2") : this.#focusFallback)?.focus();
  }

  /** Show the section while it has a row or a message. */
  #updateSection() {
    const needed = this.#rows.size > 0 || this.#message.textContent !== "";
    if (!needed && this.#section.contains(document.activeElement)) this.#focusFallback.focus();
    setShown(this.#section, needed);
    setShown(this.#message, this.#message.textContent !== "");
    if (this.#rows.size > 0) this.#ageing ??= setInterval(() => this.#age(), AGE_MS);
    else if (this.#ageing !== null) {
      clearInterval(this.#ageing);
      this.#ageing = null;
    }
  }

  #age() {
    for (const [id, row] of this.#rows) {
      const job = this.#jobs.get(id);
      if (!job) continue;
      const pause = row.running.seq === job.seq ? REFRESH_MS : CHANGED_MS;
      const due = performance.now() - row.running.at_ms > pause;
      if (job.state === "running" && due && this.#lost === null) void this.#refresh(job, row);
      this.#drawRow(job, row);
    }
  }

  /** Load the running items and their workers. @param {Job} job @param {Row} row */
  async #refresh(job, row) {
    const at_ms = performance.now();
    const running = `${job.links.items}?state=running&limit=${MAX_ITEMS}`;
    const [fresh, items] = (await this.#requests.poll(`stuck ${job.id}`, job.links.self, running)) ?? [];
    if (!Array.isArray(items?.body?.items) || typeof fresh?.body?.server_time !== "string") return; // asked again later
    row.running = { seq: job.seq, at_ms, job: fresh.body, items: items.body.items };
    this.#drawRow(this.#jobs.get(job.id) ?? job, row);
  }

  /** Draw a row as of the last news. @param {Job} job @param {Row} row */
  #drawRow(job, row) {
    const clock_ms = performance.now() - this.#stale_ms;
    drawRow(row, job, clock_ms, job.done ? null : this.#lost, this.#words);
  }

  // --- actions
  /** @param {string} id @param {Row} row @param {"rescue" | "give_up"} what */
  #open(id, row, what) {
    const job = this.#jobs.get(id);
    if (!job) return;
    row.what = what;
    row.why.value = "";
    row.why.required = what === "give_up";
    setShown(row.whyField, what === "give_up");
    setText(row.confirm, say(this.#words, what === "rescue" ? "rescue_do" : "give_up_do"));
    row.confirm.className = what === "rescue" ? "primary" : "danger";
    row.rescue.setAttribute("aria-expanded", String(what === "rescue"));
    row.giveUp.setAttribute("aria-expanded", String(what === "give_up"));
    setShown(row.ask, true);
    this.#drawRow(job, row);
    (what === "give_up" ? row.why : row.confirm).focus();
  }

  /** @param {string} id @param {Row} row */
  #close(id, row) {
    setShown(row.ask, false);
    (row.what === "rescue" && !row.rescue.hidden ? row.rescue : row.giveUp).focus();
    for (const node of [row.rescue, row.giveUp]) node.setAttribute("aria-expanded", "false");
    const job = this.#jobs.get(id);
    if (!job || !isStuck(job)) this.#drop(id, row);
    this.#updateSection();
  }

  /** @param {string} id @param {Row} row */
  async #submit(id, row) {
    const job = this.#jobs.get(id);
    if (!job || row.confirm.disabled) return;
    const [path, body, done] =
      row.what === "rescue"
        ? ["rescue", null, "rescued"]
        : ["fail", JSON.stringify({ why: row.why.value }), "gave_up_on"];
    row.confirm.disabled = true;
    row.confirm.setAttribute("aria-busy", "true");
    const headers = { "Content-Type": "application/json" };
    const answer = await this.#requests.send(`${job.links.self}/${path}`, { method: "POST", headers, body });
    row.confirm.disabled = false;
    row.confirm.removeAttribute("aria-busy");
    if (!answer) return; // the same request is in flight
    this.#showMessage(
      say(withUnit(this.#words, job), answer.ok ? done : "operate_failed", {
        name: jobTitle(job, this.#words),
        reason: refusal(answer.body, answer.status, this.#words),
      }),
    );
    if (answer.ok) this.#jobs.set(id, answer.body);
    if (answer.ok) this.#close(id, row);
    else row.confirm.focus();
  }

  /** @param {string} text */
  #showMessage(text) {
    setText(this.#message, text);
    if (this.#messageTimer !== null) clearTimeout(this.#messageTimer);
    this.#messageTimer = setTimeout(() => {
      setText(this.#message, "");
      this.#updateSection();
    }, MESSAGE_MS);
    this.#updateSection();
  }
}

/** @param {Job} job @param {Words} texts */
function makeRow(job, texts) {
  const words = withUnit(texts, job);
  const id = `stuck-${job.id}`;
  const parts = {
    name: make("a", { href: `#job=${job.id}`, id, dir: "auto" }, jobTitle(job, words)),
    note: make("p", { class: "note" }),
    known: make("p", { class: "hint" }),
    rescue: make(
      "button",
      { type: "button", class: "small", "aria-expanded": "false", "aria-describedby": id },
      say(words, "rescue"),
    ),
    giveUp: make(
      "button",
      { type: "button", class: "small", "aria-expanded": "false", "aria-describedby": id },
      say(words, "give_up"),
    ),
    ask: make("form", { class: "ask", hidden: true, "aria-labelledby": `${id}-what` }),
    confirm: make("button"),
    consequence: make("p", { id: `${id}-what` }),
    keepWaiting: make("button", { type: "button" }, say(words, "keep_waiting")),
    whyField: make("div", { class: "field" }),
    why: make("input", {
      type: "text",
      id: `${id}-why`,
      maxlength: String(WHY_LENGTH),
      autocomplete: "off",
      dir: "auto",
    }),
    what: /** @type {"rescue" | "give_up"} */ ("rescue"),
    running: /** @type {Running} */ ({ seq: -1, at_ms: -Infinity, job: null, items: [] }),
  };
  parts.confirm.setAttribute("aria-describedby", `${id}-what`);
  parts.whyField.append(make("label", { for: `${id}-why` }, say(words, "give_up_why")), parts.why);
  const choices = make("p", { class: "choices" }, parts.confirm, parts.keepWaiting);
  parts.ask.append(parts.consequence, parts.whyField, choices);
  const item = make(
    "li",
    {},
    parts.name,
    parts.note,
    parts.known,
    make("p", { class: "choices" }, parts.rescue, parts.giveUp),
    parts.ask,
  );
  return { ...parts, item };
}

/**
 * @param {Row} row
 * @param {Job} job
 * @param {number} clock_ms of a monotonic clock, when this was known
 * @param {Lost} lost
 * @param {Words} texts
 */
function drawRow(row, job, clock_ms, lost, texts) {
  const words = withUnit(texts, job);
  const { items } = row.running;
  const fact =
    healthFact(job, serverNow(job, clock_ms), words) ||
    say(words, job.done ? "attention_ended" : "attention_again");
  setText(row.note, lost ? `${fact} ${say(words, "attention_lost", { text: lost.text })}` : fact);
  setText(row.known, knownText(row.running, clock_ms, words));
  setShown(row.known, row.known.textContent !== "");
  const possible = actions(job);
  setShown(row.rescue, possible.rescue);
  setShown(row.giveUp, possible.give_up);
  if (!row.confirm.hasAttribute("aria-busy")) row.confirm.disabled = !possible[row.what];
  setText(row.consequence, row.what === "rescue" ? rescueText(job, items, words) : giveUpText(job, items, words));
}

/** Return what is known of the work: the last heartbeat, the worker, the files.
 * @param {Running} running @param {number} clock_ms @param {Words} words */
function knownText({ job, items }, clock_ms, words) {
  const parts = [];
  const life = job?.heartbeat_at ? serverNow(job, clock_ms) - Date.parse(job.heartbeat_at) : null;
  if (life !== null) parts.push(say(words, "known_life", { duration: duration(life / 1_000, words) }));
  const [first] = items;
  if (first?.worker) parts.push(say(words, "known_worker", { worker: harmless(first.worker, NAME_LENGTH) }));
  if (first)
    parts.push(
      say(words, "known_items", {
        names: harmless(first.name, NAME_LENGTH),
        more: items.length - 1,
        count: items.length,
      }),
    );
  return parts.join(" · ");
}

/** Return what a rescue would do. @param {Job} job @param {Item[]} items @param {Words} words */
function rescueText(job, items, words) {
  const last = items.filter((item) => item.attempt >= job.max_attempts).length;
  const text = say(words, "rescue_what", { count: items.length });
  return last > 0 ? `${text} ${say(words, "rescue_last", { count: last })}` : text;
}

/** Return what giving up would do. @param {Job} job @param {Item[]} items @param {Words} words */
function giveUpText(job, items, words) {
  const waiting = Math.max(0, (job.progress.total ?? 0) - job.progress.processed - items.length);
  const stops = [
    ["give_up_running", items.length],
    ["give_up_waiting", waiting],
  ]
    .filter(([, count]) => Number(count) > 0)
    .map(([key, count]) => say(words, String(key), { count: Number(count) }));
  return stops.length > 0 ? say(words, "give_up_what", { stops: stops.join(", ") }) : say(words, "give_up_plain");
}
