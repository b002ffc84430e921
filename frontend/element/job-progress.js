/*
 * Defines <job-progress src="/api/jobs/ID">, which shows one job live until it is done: as a card on the page or,
 * with `modal` or showModal(), as a dialog.
 * It must not decide when to poll (../client/follower.js does) or what to say (../view/job-view.js does).
 * See also: template.js for the nodes; ../define.js, which registers the element.
 *
 * Attributes: src, modal, label (a title), signin (address of the sign-in page), create (address of a page that
 * starts jobs).
 * Events: progress, done, timeout, create (cancelable: cancel it to start the job in another way), retry, show
 * (cancelable: a job that this one retries, or that retries it, is to be shown), close.
 * Parts: card, dialog, header, title, badge, percent, bar, counts, errors, results, footer.
 * Override request() or fetch() to change requests, for instance to add a header; replace `words` to translate.
 */
import { Follower } from "../client/follower.js";
import { IdempotencyKey } from "../client/idempotency-key.js";
import { JobSubject } from "../client/job-subject.js";
import { Requests } from "../client/requests.js";
import { say, withUnit } from "../view/format.js";
import { serverNow } from "../view/health.js";
import { announcement, checkText, forward, jobView, refusal } from "../view/job-view.js";
import { english } from "../view/locale/en.js";
import { make, setShown, setText } from "./dom.js";
import { ItemPages } from "./item-pages.js";
import { notificationState, notifyAtEnd } from "./notification.js";
import { Redraw } from "./redraw.js";
import { RetryLinks } from "./retry-links.js";
import { styleSheet } from "./styles.js";
import { drawCard, makeCard } from "./template.js";
import { Timeline } from "./timeline.js";

/** @import { Answer } from "../client/requests.js" */
/** @import { Job, Words } from "../wire" */
/** @import { ViewInput } from "../view/job-view.js" */

const AGE_EVERY_MS = 1_000;
const ANSWER_MS = 10_000; // the answer to a click is shown for this long,
const READ_MS = 3_000; // or until news come, but long enough to be read
const ID_SHOWN = 8; // enough to tell jobs apart
const AGELESS = ["ended", "gave_up", "not_found"]; // the age of the state is not shown

/** The element <job-progress>. */
export class JobProgress extends HTMLElement {
  static observedAttributes = ["src", "modal", "label", "signin", "create"];
  /** The texts of all elements. Assign a translation before the first one is connected. @type {Words} */
  static words = english;

  #card = makeCard();
  #dialog = make("dialog", { "aria-labelledby": "title", part: "dialog" });
  /** @type {Follower | null} */ #follower = null;
  /** @type {JobSubject | null} */ #subject = null;
  /** @type {Job | null} */ #known = null;
  /** @type {ReturnType<typeof forward> | null} */ #floor = null;
  /** @type {ViewInput | null} */ #announced = null;
  /** @type {ReturnType<typeof setInterval> | null} */ #ageing = null;
  /** @type {ItemPages | null} */ #failedPages = null;
  /** @type {ItemPages | null} */ #resultPages = null;
  #requests = new Requests({ fetch: (url, init) => this.fetch(this.request(url, init)) });
  #timeline = new Timeline({ requests: this.#requests, words: () => this.#texts });
  #redraw = new Redraw(() => this.#draw());
  #retryLinks = new RetryLinks({
    requests: this.#requests,
    words: () => this.#texts,
    onOpen: (job) => this.#show(job),
    onLoaded: () => this.#render(),
  });
  #checking = false;
  #cancelling = false;
  #retrying = false;
  #idempotencyKey = new IdempotencyKey();
  #finished = false;
  /** @type {ReturnType<typeof setTimeout> | null} */ #answerTimer = null;
  #answeredAt = 0;
  #removed = false; // the finished job is no longer on the server
  #embedded = false; // there is a place on the page to go back to from the dialog
  #inDialog = false;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [styleSheet()];
    root.append(this.#dialog, this.#card.card);
    this.#card.history.append(this.#timeline.root);
    this.#card.kind.after(this.#retryLinks.root);
    const { cancel, check, keep, create, notify, retry, close, showAll, results } = this.#card;
    cancel.addEventListener("click", () => this.cancel());
    check.addEventListener("click", () => this.check());
    keep.addEventListener("click", () => this.check());
    create.addEventListener("click", () => this.#createNew());
    notify.addEventListener("click", () => this.#notify());
    retry.addEventListener("click", () => this.retry());
    close.addEventListener("click", () => this.close());
    showAll.addEventListener("click", () => this.#showAllFailed());
    results.addEventListener("toggle", () => results.open && this.#showResults());
    this.#dialog.addEventListener("close", () => this.#onClosed());
  }

  get src() {
    return this.getAttribute("src") ?? "";
  }

  set src(value) {
    this.setAttribute("src", value);
  }

  /** The newest state of the job. Set it before `src` if the page has it already. */
  get job() {
    return this.#subject?.job ?? this.#known;
  }

  set job(job) {
    this.#known = job;
  }

  get words() {
    return /** @type {typeof JobProgress} */ (this.constructor).words;
  }

  /** The texts about this job. */
  get #texts() {
    return withUnit(this.words, this.job);
  }

  connectedCallback() {
    if (this.hasAttribute("modal")) this.showModal();
    else this.#embed();
  }

  disconnectedCallback() {
    this.#stop();
    // Without an event: an element that is only moved opens again. A dialog that stays open here could not.
    this.#dialog.removeAttribute("open");
    this.#inDialog = false;
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (!this.isConnected || before === after) return;
    if (name === "src") this.#follow({ anew: true });
    else if (name === "modal" && after === null) this.#embed();
    else if (name === "modal" && before === null) this.showModal();
    else this.#render();
  }

  /** Show the job in a modal dialog. Throws an Error if the element is not in the document. */
  showModal() {
    if (!this.isConnected) throw new Error("job-progress: add the element to the document before showModal()");
    if (this.#inDialog) return;
    this.#inDialog = true;
    this.toggleAttribute("modal", true);
    this.#dialog.append(this.#card.card);
    this.#dialog.showModal();
    this.#card.title.focus();
    this.#follow();
  }

  /** Close the dialog; an element that was on the page before is there again. The job continues. */
  close() {
    this.#dialog.close();
    this.#onClosed();
  }

  /** Draw again, after a text in `words` has changed. */
  redraw() {
    this.#render();
  }

  /** Show the card in its place on the page. */
  #embed() {
    this.#embedded = true;
    this.shadowRoot?.append(this.#card.card);
    this.close();
    this.#follow();
  }

  /** After close(), or after Esc: the browser has closed the dialog. */
  #onClosed() {
    if (!this.#inDialog || this.#dialog.open) return;
    this.#inDialog = false;
    if (this.#embedded) this.removeAttribute("modal");
    else this.#stop();
    this.dispatchEvent(new CustomEvent("close"));
  }

  /** Poll now and show the result; for a finished job, whether it is still there. */
  async check() {
    if (this.job?.done) return this.#checkKept();
    if (!this.#follower || this.#checking) return;
    const follower = this.#follower;
    const focused = this.shadowRoot?.activeElement;
    this.#checking = true;
    this.#answer("");
    this.#render();
    const found = await follower.check();
    this.#checking = false;
    if (follower !== this.#follower) return;
    this.#answer(checkText(found, this.words));
    this.#render();
    if (
      focused instanceof HTMLButtonElement &&
      !focused.hidden &&
      this.shadowRoot?.activeElement === this.#card.title
    )
      focused.focus();
  }

  async #checkKept() {
    const url = this.#url().href;
    const answer = await this.#requests.send(url);
    if (answer?.body?.code !== "job_not_found" || url !== this.#url().href) return;
    this.#removed = true;
    this.#render();
  }

  /** Request that the job be cancelled. */
  async cancel() {
    const job = this.job;
    if (!job || job.done || this.#cancelling) return;
    this.#cancelling = true;
    this.#answer("");
    this.#render();
    const answer = await this.#post(new URL(job.links.cancel, this.#url()).href);
    this.#cancelling = false;
    if (answer?.ok) this.#follower?.applyAnswer(answer.body);
    else if (answer) this.#refuse("cancel_failed", answer);
    this.#render();
  }

  /** Retry the failed and cancelled items as a new job, and show that job from now on. */
  async retry() {
    const job = this.job;
    const follower = this.#follower;
    if (!follower || !job?.links.retry || this.#retrying) return;
    this.#retrying = true;
    this.#answer("");
    this.#render();
    const answer = await this.#post(new URL(job.links.retry, this.#url()).href, {
      "Idempotency-Key": this.#idempotencyKey.keyFor(job.id),
    });
    if (follower !== this.#follower) return; // closed, or showing another job meanwhile
    this.#retrying = false;
    if (answer?.ok && answer.body.links) return this.#continueWith(answer.body);
    if (answer) this.#refuse("retry_failed_to", answer);
    this.#render();
  }

  /** Say why a request was refused. @param {string} key of the text @param {Answer} answer */
  #refuse(key, { body, status }) {
    if (body?.code === "job_not_found") this.#removed = true;
    this.#answer(say(this.words, key, { reason: refusal(body, status, this.words) }), "bad");
  }

  /** @param {Job} job */
  #continueWith(job) {
    this.#idempotencyKey.renew();
    this.#known = job;
    this.src = new URL(job.links.self, this.#url()).href;
    this.#answer(say(this.#texts, "retry_started"));
    this.dispatchEvent(new CustomEvent("retry", { detail: { job } }));
  }

  /** Show a job that this one retries, or the other way round, unless the page does. @param {Job} job */
  #show(job) {
    const unhandled = this.dispatchEvent(new CustomEvent("show", { detail: { job }, cancelable: true }));
    if (!unhandled) return;
    this.#known = job;
    this.src = new URL(job.links.self, this.#url()).href;
    this.#card.title.focus();
  }

  /** Let the page start another job in place of a missing one, else go to the `create` address. */
  #createNew() {
    const detail = { id: this.#subject?.id ?? "", job: this.job };
    const unhandled = this.dispatchEvent(new CustomEvent("create", { detail, cancelable: true }));
    if (unhandled) location.assign(new URL(this.getAttribute("create") ?? "", document.baseURI));
  }

  async #notify() {
    const job = this.job;
    if (!job) return;
    const requested = await notifyAtEnd({
      url: this.#url().href,
      job,
      words: this.words,
      fetch: (url, init) => this.fetch(this.request(String(url), init)),
    });
    this.#answer(requested ? "" : say(this.words, "notice_refused"));
    this.#render();
  }

  /** Make each request of this element. @param {string | URL} url @param {RequestInit} [init] */
  request(url, init) {
    return new Request(url, init);
  }

  /** Send each request of this element. @param {Request} request @returns {Promise<Response>} */
  fetch(request) {
    return window.fetch(request);
  }

  // --- following
  #url() {
    return new URL(this.src, document.baseURI);
  }

  /** Follow the job, unless it is followed already. @param {{anew?: boolean}} [how] */
  #follow({ anew = false } = {}) {
    const shown = this.#inDialog || !this.hasAttribute("modal");
    if (!anew && this.#follower) return this.#render();
    this.#stop();
    if (!this.src || !shown) return;
    const known = this.#known && this.#url().pathname.endsWith(`/${this.#known.id}`) ? this.#known : null;
    this.#subject = new JobSubject(this.#url().href, known);
    const follower = new Follower({
      subject: this.#subject,
      fetch: (url, init) => this.fetch(this.request(String(url), init)),
    });
    this.#follower = follower;
    follower.addEventListener("change", () => this.#onChange(follower));
    follower.addEventListener("timeout", (event) =>
      this.dispatchEvent(
        new CustomEvent("timeout", { detail: { error: /** @type {CustomEvent} */ (event).detail } }),
      ),
    );
    this.#render();
    follower.start();
  }

  #stop() {
    this.#follower?.close();
    this.#follower = this.#subject = this.#floor = this.#announced = null;
    this.#finished = this.#retrying = this.#removed = false;
    this.#failedPages = this.#resultPages = null;
    for (const place of [this.#card.allErrors, this.#card.allResults, this.#card.errors, this.#card.reason])
      place.replaceChildren();
    this.#card.problems.open = this.#card.results.open = false;
    this.#timeline.close();
    this.#retryLinks.close();
    this.#answer("");
    this.#redraw.cancel();
    this.#age(false);
  }

  /** @param {Follower} follower */
  #onChange(follower) {
    if (follower !== this.#follower) return;
    const job = this.#subject?.job ?? null;
    if (job && job.seq !== this.#known?.seq && performance.now() - this.#answeredAt > READ_MS) this.#answer("");
    this.#known = job ?? this.#known;
    if (job?.done) this.#render();
    else this.#redraw.schedule();
    this.dispatchEvent(new CustomEvent("progress", { detail: { job, link: follower.link } }));
    if (!job?.done || this.#finished) return;
    this.#finished = true;
    this.dispatchEvent(new CustomEvent("done", { detail: { job } }));
  }

  /** @param {string} url @param {Record<string, string>} [headers] */
  #post(url, headers = {}) {
    return this.#requests.send(url, { method: "POST", headers });
  }

  // --- drawing
  /** @returns {ViewInput} */
  #viewInput() {
    const job = this.job;
    this.#floor = job ? forward(this.#floor, job) : null;
    return {
      job,
      now_ms: job ? serverNow(job, performance.now()) : 0,
      link: this.#follower?.link ?? (job?.done ? "ended" : "connecting"),
      id: this.src.split("/").pop() ?? "",
      found_by_polling: this.#follower?.foundByPolling ?? false,
      can_create: this.hasAttribute("create"),
      notice: this.src ? notificationState(this.#url().href) : "none",
      news_age_ms: this.#follower?.newsAgeMs ?? null,
      failure: this.#follower?.failure ?? null,
      browser_offline: !navigator.onLine,
      checking: this.#checking,
      cancelling: this.#cancelling,
      retrying: this.#retrying,
      retried: this.#retryLinks.retried !== null,
      removed: this.#removed,
      floor: this.#floor?.percent ?? 0,
      label: this.getAttribute("label") ?? "",
    };
  }

  /** Draw at once, after a click or at the end of the job. */
  #render() {
    this.#redraw.now();
  }

  #draw() {
    const input = this.#viewInput();
    const { job } = input;
    const href = (/** @type {string} */ link) => new URL(link, this.#url()).href;
    const focused = this.shadowRoot?.activeElement;
    const context = {
      modal: this.hasAttribute("modal"),
      signin: this.getAttribute("signin"),
      checking: this.#checking,
      cancelling: this.#cancelling,
      retrying: this.#retrying,
      retried: this.#retryLinks.retried !== null,
      zip: job?.links.results ? href(job.links.results) : null,
      errorsFile: job ? href(`${job.links.self}/errors`) : null,
    };
    if (job) this.#failedPages?.recount(job.progress.failed);
    if (job) this.#resultPages?.recount(job.progress.succeeded);
    if (job?.links.timeline)
      this.#timeline.follow(href(job.links.timeline), job.seq, () => serverNow(job, performance.now()));
    if (job) void this.#retryLinks.follow(job, href(job.links.self));
    const shown = jobView(input, this.words);
    drawCard(this.#card, shown, context, this.#texts);
    this.#card.card.setAttribute("aria-label", this.#label(shown.title));
    // If the focused button has disappeared, keep the focus in the card rather than at the top of the page.
    const lost = focused instanceof HTMLElement && (focused.hidden || focused.matches(":disabled"));
    if (lost) (job?.done ? this.#card.sentence : this.#card.title).focus();
    this.#age(this.#follower !== null && !AGELESS.includes(input.link));
    this.#announce(input);
  }

  /** Name the region: two jobs of one name, or two elements for one job, still differ. @param {string} title */
  #label(title) {
    const twins = [...document.querySelectorAll(this.localName)].filter(
      (one) => one.getAttribute("src") === this.getAttribute("src"),
    );
    const place = twins.indexOf(this) + 1;
    const id = (this.#subject?.id ?? "").slice(0, ID_SHOWN);
    return say(this.words, place > 1 ? "region_again" : "region", { title, id, place });
  }

  /** @param {ViewInput} input */
  #announce(input) {
    const text = announcement(this.#announced, input, this.words);
    this.#announced = input;
    if (text) this.#card.live.textContent = text;
  }

  /** Show the result of a click until the next news, or for a while; "" hides it.
   * @param {string} text @param {"" | "bad"} [tone] */
  #answer(text, tone = "") {
    if (this.#answerTimer !== null) clearTimeout(this.#answerTimer);
    this.#answerTimer = text ? setTimeout(() => this.#answer(""), ANSWER_MS) : null;
    this.#answeredAt = performance.now();
    this.#card.answer.className = `answer ${tone}`;
    setText(this.#card.answer, text);
    setShown(this.#card.answer, text !== "");
    if (text) this.#card.answer.scrollIntoView({ block: "nearest" }); // a long list may be open below
  }

  /** Redraw every second, while the age of the state is shown. @param {boolean} on */
  #age(on) {
    if (on === (this.#ageing !== null)) return;
    if (this.#ageing !== null) clearInterval(this.#ageing);
    this.#ageing = on ? setInterval(() => this.#render(), AGE_EVERY_MS) : null;
  }

  #showAllFailed() {
    const job = this.job;
    if (job)
      this.#failedPages = this.#openPages(
        this.#card.allErrors,
        job,
        "failed",
        job.progress.failed,
        say(this.words, "failed_count"),
      );
    this.#render();
  }

  #showResults() {
    const job = this.job;
    if (!job || this.#card.allResults.hasChildNodes()) return;
    this.#resultPages = this.#openPages(
      this.#card.allResults,
      job,
      "succeeded",
      job.progress.succeeded,
      say(this.words, "results"),
    );
  }

  /**
   * @param {HTMLElement} place
   * @param {Job} job
   * @param {string} state
   * @param {number} count
   * @param {string} label
   */
  #openPages(place, job, state, count, label) {
    const url = new URL(job.links.items, this.#url());
    const pages = new ItemPages({
      url,
      state,
      count,
      label,
      requests: this.#requests,
      words: this.words,
    });
    place.replaceChildren(pages.root);
    void pages.show();
    return pages;
  }
}
