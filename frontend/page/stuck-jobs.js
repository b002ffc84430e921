/*
 * "Needs attention": the jobs of the batch page that are stuck, what is known of each, and what a person can do:
 * retry its running files, or give up on the job. Both are confirmed in place. It is shown only while there is
 * something to say, and draws at most a few jobs. It must not know how jobs are followed.
 * Next: ../view/health.js; PROTOCOL.md for the operator's requests.
 */
import { icon, make, setShown, setText } from "../element/dom.js";
import { duration, harmless, say } from "../view/format.js";
import { healthFact, serverNow, isStuck } from "../view/health.js";
import { jobTitle, refusal } from "../view/job-view.js";
import { english } from "../view/locale/en.js";

/** @import { Item, Job, Words } from "../wire" */
/** @typedef {ReturnType<typeof makeRow>} Row */
/**
 * @typedef {{seq: number, at_ms: number, job: Job | null, items: Item[]}} Running the running items, and when they
 *   were loaded
 */

const MAX_ROWS = 5;
const AGE_MS = 5_000; // durations grow
const REFRESH_MS = 15_000; // a heartbeat of a worker is no change of the job, so it is polled
const MESSAGE_MS = 15_000; // how long a message about an action stays
const MAX_ITEMS = 200; // more than any machine works on at once
const WHY_LENGTH = 500;
const NAME_LENGTH = 48;

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

  /**
   * @param {{section: HTMLElement, focusFallback: HTMLElement, words?: Words}} page focusFallback: takes the focus
   *   when the section disappears
   */
  constructor({ section, focusFallback, words = english }) {
    this.#section = section;
    this.#focusFallback = focusFallback;
    this.#words = words;
    const title = make("h2", { id: "attention-title", tabindex: "-1" }, icon("warn"), say(words, "attention"));
    section.append(title, this.#list, this.#more, this.#message);
  }

  /** Draw those of all known jobs that are stuck. @param {Job[]} jobs */
  draw(jobs) {
    this.#jobs = new Map(jobs.map((job) => [job.id, job]));
    const found = jobs.filter(isStuck);
    const shown = found.slice(0, MAX_ROWS);
    const there = new Set(shown.map((job) => job.id));
    for (const [id, row] of this.#rows) if (!there.has(id) && row.ask.hidden) this.#drop(id, row);
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
    row.leave.addEventListener("click", () => this.#close(job.id, row));
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
      const due = row.running.seq !== job.seq || performance.now() - row.running.at_ms > REFRESH_MS;
      if (job.state === "running" && due && !row.asking) void this.#refresh(job, row);
      drawRow(row, job, serverNow(job, performance.now()), this.#words);
    }
  }

  /** Load the running items and their workers. @param {Job} job @param {Row} row */
  async #refresh(job, row) {
    row.asking = true;
    const [[fresh], [body]] = await Promise.all([
      request(job.links.self),
      request(`${job.links.items}?state=running&limit=${MAX_ITEMS}`),
    ]);
    row.asking = false;
    if (!Array.isArray(body?.items) || typeof fresh?.server_time !== "string") return; // until the next
    row.running = { seq: job.seq, at_ms: performance.now(), job: fresh, items: body.items };
    drawRow(row, this.#jobs.get(job.id) ?? job, serverNow(job, performance.now()), this.#words);
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
    setText(row.does, say(this.#words, what === "rescue" ? "rescue_do" : "give_up_do"));
    row.does.className = what === "rescue" ? "primary" : "danger";
    row.rescue.setAttribute("aria-expanded", String(what === "rescue"));
    row.giveUp.setAttribute("aria-expanded", String(what === "give_up"));
    setShown(row.ask, true);
    drawRow(row, job, serverNow(job, performance.now()), this.#words);
    (what === "give_up" ? row.why : row.does).focus();
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
    if (!job || row.does.disabled) return;
    const [path, body, done] =
      row.what === "rescue" ? ["rescue", null, "rescued"] : ["fail", { why: row.why.value }, "gave_up_on"];
    row.does.disabled = true;
    row.does.setAttribute("aria-busy", "true");
    const [answer, status] = await request(`${job.links.self}/${path}`, body);
    row.does.disabled = false;
    row.does.removeAttribute("aria-busy");
    const well = status !== null && status < 300;
    this.#showMessage(
      say(this.#words, well ? done : "operate_failed", {
        name: jobTitle(job, this.#words),
        reason: refusal(answer, status, this.#words),
      }),
    );
    if (well) this.#jobs.set(id, answer);
    if (well) this.#close(id, row);
    else row.does.focus();
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

/**
 * @param {string} url
 * @param {object | null} [body] sends a POST; without it, a GET
 * @returns {Promise<[any, number | null]>}
 */
async function request(url, body) {
  const post = {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: body ? JSON.stringify(body) : null,
  };
  try {
    const response = await fetch(url, body === undefined ? {} : post);
    return [await response.json().catch(() => null), response.status];
  } catch {
    return [null, null]; // the caller tells the person
  }
}

/** @param {Job} job @param {Words} words */
function makeRow(job, words) {
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
    does: make("button"),
    consequence: make("p", { id: `${id}-what` }),
    leave: make("button", { type: "button" }, say(words, "leave_it")),
    whyField: make("div", { class: "field" }),
    why: make("input", {
      type: "text",
      id: `${id}-why`,
      maxlength: String(WHY_LENGTH),
      autocomplete: "off",
      dir: "auto",
    }),
    what: /** @type {"rescue" | "give_up"} */ ("rescue"),
    asking: false,
    running: /** @type {Running} */ ({ seq: -1, at_ms: 0, job: null, items: [] }),
  };
  parts.does.setAttribute("aria-describedby", `${id}-what`);
  parts.whyField.append(make("label", { for: `${id}-why` }, say(words, "give_up_why")), parts.why);
  parts.ask.append(parts.consequence, parts.whyField, make("p", { class: "choices" }, parts.does, parts.leave));
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

/** @param {Row} row @param {Job} job @param {number} now_ms the server's time @param {Words} words */
function drawRow(row, job, now_ms, words) {
  const { items } = row.running;
  setText(
    row.note,
    healthFact(job, now_ms, words) || say(words, job.done ? "attention_ended" : "attention_again"),
  );
  setText(row.known, known(row.running, words));
  setShown(row.known, row.known.textContent !== "");
  setShown(row.rescue, job.state === "running");
  setText(row.consequence, row.what === "rescue" ? rescueText(job, items, words) : giveUpText(job, items, words));
}

/** @param {Running} running @param {Words} words */
function known({ job, items }, words) {
  const parts = [];
  const life = job?.heartbeat_at ? serverNow(job, performance.now()) - Date.parse(job.heartbeat_at) : null;
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

/** @param {Job} job @param {Item[]} items @param {Words} words */
function rescueText(job, items, words) {
  const last = items.filter((item) => item.attempt >= job.max_attempts).length;
  const text = say(words, "rescue_what", { count: items.length });
  return last > 0 ? `${text} ${say(words, "rescue_last", { count: last })}` : text;
}

/** @param {Job} job @param {Item[]} items @param {Words} words */
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
