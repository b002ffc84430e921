/*
 * Shows what happened to a job, the newest first: the list under "Details" in its card. The list is loaded when it is opened and,
 * while it is open, after changes of the job, at most every few seconds; it has at most a few hundred rows.
 * It must not know streams or the rest of the card.
 * See also: PROTOCOL.md for the timeline endpoint; ../view/locale/en.js for the texts (tl_…).
 */
import { duration, harmless, localeOf, say } from "../view/format.js";
import { refusal } from "../view/job-view.js";
import { english } from "../view/locale/en.js";
import { make, setShown, setText } from "./dom.js";

/** @import { Answer, Requests } from "../client/requests.js" */
/** @import { Words } from "../wire" */
/**
 * @typedef {{at: string, what: string, text: string | null, item: {index: number, name: string | null} | null,
 *   attempt: number | null, worker: string | null}} Entry
 */
/** @typedef {{name: string, text: string, about: string}} Line */

const FIRST_PAGE = 50;
const MAX_ENTRIES = 500;
const PAUSE_MS = 3_000; // between two requests
const AGE_MS = 10_000; // between two updates of "… ago"
const NAME_LENGTH = 72;
const TEXT_LENGTH = 300;
const KEY = "timeline"; // of its requests

/** Describe an entry. @param {Entry} entry @param {Words} [words] @returns {Line} */
export function entryLine(entry, words = english) {
  const { what, text, item, attempt, worker } = entry;
  const detail = harmless(text ?? "", TEXT_LENGTH);
  const special = what === "submitted" && text ? "tl_submitted_again" : `tl_${what}_${text}`;
  const known =
    (words[special] ?? english[special])
      ? special
      : (words[`tl_${what}`] ?? english[`tl_${what}`])
        ? `tl_${what}`
        : "tl_other";
  const about = [
    attempt !== null && attempt > 1 ? say(words, "tl_attempt", { attempt }) : "",
    worker ? harmless(worker, NAME_LENGTH) : "",
  ];
  return {
    name: item ? harmless(item.name ?? String(item.index + 1), NAME_LENGTH) : "",
    text: say(words, known, { what: harmless(what, NAME_LENGTH), text: detail }),
    about: about.filter(Boolean).join(" · "),
  };
}

/** The folded list of a job's entries. */
export class Timeline {
  root = make("details", { class: "timeline", hidden: true });
  #title = make("summary");
  #list = make("ol", { class: "list", tabindex: "0" });
  #place = make("span", { role: "status" });
  #earlier = make("button", { type: "button", class: "small" });
  #limit = FIRST_PAGE;
  /** @type {string | null} */ #url = null;
  #seq = 0;
  #shownSeq = -1;
  #now = () => Date.now();
  #loading = false;
  #loadedAt = -Infinity;
  /** @type {ReturnType<typeof setTimeout> | null} */ #due = null;
  /** @type {ReturnType<typeof setInterval> | null} */ #ageing = null;
  /** @type {Requests} */ #requests;
  /** @type {() => Words} */ #words;

  /** @param {{requests: Requests, words: () => Words}} options */
  constructor({ requests, words }) {
    this.#requests = requests;
    this.#words = words;
    this.#earlier.addEventListener("click", () => {
      this.#limit = MAX_ENTRIES;
      void this.#reload();
    });
    this.root.addEventListener("toggle", () => this.#toggled());
    this.root.append(this.#title, this.#list, make("div", { class: "pager" }, this.#place, this.#earlier));
  }

  /**
   * Show this timeline, and load it again if `seq` has changed.
   * @param {string} url
   * @param {number} seq
   * @param {() => number} now the server's time
   */
  follow(url, seq, now) {
    setText(this.#title, say(this.#words(), "details"));
    setText(this.#earlier, say(this.#words(), "tl_earlier"));
    setShown(this.root, true);
    [this.#url, this.#seq, this.#now] = [url, seq, now];
    if (this.root.open) this.#loadSoon();
  }

  /** Forget the timeline and hide the list. */
  close() {
    this.root.open = false;
    setShown(this.root, false);
    this.#stopTimers();
    this.#list.replaceChildren();
    [this.#url, this.#shownSeq, this.#limit] = [null, -1, FIRST_PAGE];
  }

  #stopTimers() {
    if (this.#due !== null) clearTimeout(this.#due);
    if (this.#ageing !== null) clearInterval(this.#ageing);
    this.#due = this.#ageing = null;
  }

  #toggled() {
    if (!this.root.open) return this.#stopTimers();
    this.#ageing ??= setInterval(() => this.#age(), AGE_MS);
    this.#age();
    this.#loadSoon();
  }

  #loadSoon() {
    if (this.#seq === this.#shownSeq || this.#loading || this.#due !== null || this.#url === null) return;
    const paused = this.#loadedAt + PAUSE_MS - performance.now();
    const wait = Math.max(paused, this.#requests.wait(KEY));
    if (wait <= 0) void this.#reload();
    else this.#due = setTimeout(() => this.#reload(), wait);
  }

  async #reload() {
    if (this.#due !== null) clearTimeout(this.#due);
    this.#due = null;
    if (this.#url === null || this.#loading) return;
    const [url, seq, limit] = [this.#url, this.#seq, this.#limit];
    [this.#loading, this.#loadedAt] = [true, performance.now()];
    if (!this.#list.hasChildNodes()) setText(this.#place, say(this.#words(), "items_loading"));
    const [answer] = (await this.#requests.poll(KEY, `${url}?limit=${limit}`)) ?? [];
    this.#loading = false;
    if (url === this.#url && answer) this.#show(answer, limit === this.#limit ? seq : -1);
    if (this.root.open) this.#loadSoon(); // after a failure, once its pause is over
  }

  /** @param {Answer} answer @param {number} seq of the job when it was requested */
  #show({ ok, status, body }, seq) {
    if (!ok || !Array.isArray(body.entries))
      return setText(
        this.#place,
        say(this.#words(), "items_failed", { reason: refusal(body, status, this.#words()) }),
      );
    this.#draw(body);
    this.#shownSeq = seq;
  }

  /** @param {{entries: Entry[], more: boolean}} answer */
  #draw({ entries, more }) {
    const words = this.#words();
    const list = this.#list;
    list.setAttribute("aria-label", say(words, "details"));
    list.replaceChildren(
      ...entries
        .slice(-this.#limit)
        .map((entry) => row(entry, words))
        .reverse(),
    );
    this.#age();
    setText(this.#place, say(words, more ? "tl_newest" : "tl_all", { count: list.childElementCount }));
    setShown(this.#earlier, more && this.#limit < MAX_ENTRIES);
  }

  #age() {
    const now = this.#now();
    for (const node of this.#list.querySelectorAll(".ago")) {
      const seconds = (now - Date.parse(node.getAttribute("data-at") ?? "")) / 1_000;
      setText(node, say(this.#words(), "ago", { duration: duration(Math.max(0, seconds), this.#words()) }));
    }
  }
}

/** @param {Entry} entry @param {Words} words */
function row(entry, words) {
  const line = entryLine(entry, words);
  const at = new Date(entry.at);
  const today = at.toDateString() === new Date().toDateString();
  const clock = new Intl.DateTimeFormat(localeOf(words), {
    ...(today ? {} : { day: "numeric", month: "short" }),
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
  return make(
    "li",
    {},
    make(
      "span",
      { class: "event" },
      line.name && make("bdi", {}, line.name),
      line.name && " ",
      make("span", { dir: "auto" }, line.text),
    ),
    make("time", { datetime: entry.at, title: at.toLocaleString(localeOf(words)) }, clock.format(at)),
    make("span", { class: "message", dir: "auto" }, line.about),
    make("span", { class: "message ago", "data-at": entry.at }),
  );
}
