/*
 * Runs the form for a new job: kind, files, options, sending. It decides when the form may be sent.
 * It must not know what is wrong with files, how options look, or the request.
 * See also: file-picker.js, option-fields.js and upload.js, which know that; ../index.html for the nodes.
 */
import { IdempotencyKey } from "../client/idempotency-key.js";
import { askedPause, CLICK_PAUSE_MS } from "../client/request-policy.js";
import { icon, make, setShown, setText } from "../element/dom.js";
import { byteSize, etaText, harmless, percentText, say, withUnit } from "../view/format.js";
import { refusal } from "../view/job-view.js";
import { checkFiles, fromDrop, fromInput, isSystemFile, withAdded, withSizes } from "./file-picker.js";
import { fillOptions, optionFields, optionValues, plainText } from "./option-fields.js";
import { takeDrops } from "./page-drop.js";
import { UploadMeter } from "./upload-meter.js";
import { SubmitError, submit } from "./upload.js";

/** @import { Job, Kind, Limits, Words } from "../wire" */
/** @import { Requests } from "../client/requests.js" */
/** @import { ChosenFile, Submission } from "./upload.js" */
/** @import { FoundFile } from "./file-picker.js" */

const NAMES_SHOWN = 5;
const SUBMISSIONS_KEPT = 20; // jobs of this page that can be started again
const NAME_LENGTH = 80;
const SYSTEM_NAMES_SHOWN = 3;
const REDRAW_MS = 1_000; // while no byte is sent there are no events, but the forecast changes

/** The form for a new job. */
export class NewJob {
  #api;
  #byId;
  #words;
  #page;
  /** @type {Kind[]} */ #kinds = [];
  /** @type {Limits} */ #limits = {
    max_files: 0,
    max_file_bytes: 0,
    max_job_bytes: 0,
    max_name_length: 0,
    item_errors_shown: 0,
  };
  /** @type {Kind | null} */ #kind = null;
  /** @type {ChosenFile[]} */ #chosen = [];
  /** What was left out of the last files. @type {string[]} */ #leftOut = [];
  #toRead = 0; // files whose sizes have not been read yet
  #reading = new AbortController();
  #adding = Promise.resolve();
  /** @type {(() => void) | null} */ #abort = null;
  /** The last submissions, by job id. @type {Map<string, Omit<Submission, "key">>} */ #submissions = new Map();
  #idempotencyKey = new IdempotencyKey();
  /** The last refusal, and when another start may be sent (steady clock). @type {SubmitError | null} */ #refused =
    null;
  #startAt = 0;

  /**
   * @param {{api: URL, byId: (id: string) => HTMLElement, words: Words, requests: Requests, onStarted: (job: Job) =>
   *   void, onBroken: () => void, onKinds: (kinds: Kind[]) => void, onDropped: () => void, onUpload: (percent:
   *   string) => void}} page onUpload is called with "" once nothing is being uploaded any more
   */
  constructor(page) {
    this.#api = page.api;
    this.#byId = page.byId;
    this.#words = page.words;
    this.#page = page;
    this.#byId("invite").prepend(icon("up"));
    setShown(this.#byId("folder-way"), "webkitdirectory" in HTMLInputElement.prototype);
    this.#listen();
    void this.#loadKinds();
  }

  get #form() {
    return /** @type {HTMLFormElement} */ (this.#byId("new-job"));
  }

  /** @param {string} id */
  #input(id) {
    return /** @type {HTMLInputElement} */ (this.#byId(id));
  }

  #listen() {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#send();
    });
    this.#form.addEventListener("input", () => this.#changed());
    for (const id of ["pick-files", "pick-folder"]) {
      this.#byId(id).addEventListener("change", () => {
        void this.#add(fromInput(this.#input(id).files ?? []), []);
        this.#input(id).value = ""; // so that the same file can be chosen again
      });
    }
    this.#byId("remove-all").addEventListener("click", () => {
      this.#reading.abort();
      [this.#reading, this.#toRead] = [new AbortController(), 0];
      this.#choose([], []);
      this.#input("pick-files").focus();
    });
    this.#byId("upload-cancel").addEventListener("click", () => this.#abort?.());
    takeDrops({
      hint: this.#byId("drop-hint"),
      text: () => say(this.#words, this.#abort ? "drop_next" : "drop_now"),
      onDrop: (transfer) => this.#drop(transfer),
    });
    window.addEventListener("beforeunload", (event) => this.#abort && event.preventDefault());
  }

  /** @param {DataTransfer} transfer */
  async #drop(transfer) {
    const reading = fromDrop(transfer, this.#limits.max_files || Infinity);
    this.#page.onDropped();
    if (!this.#kind?.needs_file)
      this.#select(this.#kinds.find((kind) => kind.needs_file && !kind.unavailable)?.name);
    setText(this.#byId("chosen-sum"), say(this.#words, "reading_folder"));
    setShown(this.#byId("chosen"), true);
    const { files, unreadable } = await reading;
    await this.#add(
      files,
      unreadable.map(({ name, reason }) =>
        say(this.#words, "folder_unreadable", { name: harmless(name, NAME_LENGTH), reason: harmless(reason) }),
      ),
    );
  }

  /** Fill in the form as it was for this job, as far as the page still knows, but do not send it.
   * @param {string} id @param {string | null} kind of the job, for a job of another page */
  again(id, kind) {
    const submission = this.#submissions.get(id);
    const found = this.#select(submission?.kind ?? kind ?? "");
    if (submission) {
      fillOptions(submission.options, this.#form);
      this.#input("name").value = submission.name;
      this.#input("total").value = String(submission.total ?? this.#input("total").value);
    }
    this.#choose(
      submission?.files ?? this.#chosen,
      found && !submission && this.#kind?.needs_file ? [say(this.#words, "choose_again")] : [],
    );
    this.#byId("start").focus();
    this.#byId("new-job").scrollIntoView({ block: "nearest" });
  }

  // --- kinds
  /** Choose a kind, and return whether it can be chosen. @param {string} [name] */
  #select(name = "") {
    const choice = this.#form.querySelector(`input[name="kind"][value="${CSS.escape(name)}"]`);
    const possible = choice instanceof HTMLInputElement && !choice.disabled;
    if (possible) choice.checked = true;
    this.#useKind();
    return possible;
  }

  async #loadKinds() {
    const place = this.#byId("kinds-trouble");
    setShown(place, false);
    const answer = await this.#page.requests.send(new URL("kinds", this.#api).href);
    if (!answer) return; // the same request is in flight
    const { body, status } = answer;
    if (!Array.isArray(body?.kinds) || !body.limits) {
      const again = make("button", { type: "button", class: "small" }, say(this.#words, "try_again"));
      again.addEventListener("click", () => this.#loadKinds());
      place.replaceChildren(
        make("p", {}, say(this.#words, "kinds_failed", { reason: refusal(body, status, this.#words) })),
        again,
      );
      return setShown(place, true);
    }
    [this.#kinds, this.#limits] = [body.kinds, body.limits];
    this.#page.onKinds(this.#kinds);
    this.#byId("kinds").append(...this.#kinds.map((kind) => kindChoice(kind, this.#words)));
    this.#select(this.#kinds.find((kind) => !kind.unavailable)?.name);
    this.#byId("kinds").addEventListener("change", () => this.#useKind());
    setShown(this.#form, true);
  }

  #useKind() {
    const name = new FormData(this.#form).get("kind");
    const kind = this.#kinds.find((one) => one.name === name) ?? null;
    if (!kind) return;
    this.#kind = kind;
    const legend = this.#byId("options").firstElementChild;
    this.#byId("options").replaceChildren(...(legend ? [legend] : []), ...optionFields(kind.options, this.#words));
    setShown(this.#byId("options"), kind.options.length > 0);
    setShown(this.#byId("choose"), kind.needs_file);
    setShown(this.#byId("total-field"), !kind.needs_file);
    setText(this.#byId("total-label"), say(this.#unitWords(kind), "form_total"));
    this.#input("total").max = String(this.#limits.max_files);
    this.#input("total").required = !kind.needs_file;
    if (kind.accept && kind.accept !== "*" && kind.accept !== "*/*")
      this.#input("pick-files").accept = kind.accept;
    else this.#input("pick-files").removeAttribute("accept");
    this.#changed();
  }

  /** The texts about the items of this kind. @param {Kind} kind */
  #unitWords({ unit, units, needs_file }) {
    return withUnit(this.#words, { unit, units, external: !needs_file });
  }

  // --- files
  /** @param {FoundFile[]} found @param {string[]} unreadable */
  #add(found, unreadable) {
    const { signal } = this.#reading;
    this.#toRead += found.length;
    this.#changed();
    // One after the other, because each adds to what is chosen by then.
    const adding = this.#adding.then(async () => {
      const files = await withSizes(found.filter(({ name }) => !isSystemFile(name)));
      const chosen = await withAdded(this.#chosen, files);
      if (signal.aborted) return; // all files were removed meanwhile
      this.#toRead -= found.length;
      this.#choose(chosen, [...unreadable, ...this.#systemFiles(found)]);
    });
    this.#adding = adding.catch(() => {}); // thrown to the caller
    return adding;
  }

  /** @param {FoundFile[]} found @returns {string[]} */
  #systemFiles(found) {
    const names = found.map(({ name }) => name).filter(isSystemFile);
    if (names.length === 0) return [];
    const known = [...new Set(names.map((name) => name.replace(/^.*\//, "")))].map((name) =>
      harmless(name, NAME_LENGTH),
    );
    const shown = known.slice(0, SYSTEM_NAMES_SHOWN).join(", ") + (known.length > SYSTEM_NAMES_SHOWN ? ", …" : "");
    return [say(this.#words, "system_files", { count: names.length, names: shown })];
  }

  /** @param {ChosenFile[]} files @param {string[]} leftOut */
  #choose(files, leftOut) {
    [this.#chosen, this.#leftOut] = [files, leftOut];
    this.#changed();
  }

  /** Check the form again after a change. */
  #changed() {
    const kind = this.#kind;
    if (!kind) return;
    const { bytes, problems, warnings } = checkFiles(this.#chosen, kind, this.#limits, this.#words);
    const files = kind.needs_file;
    this.#drawChosen(files, bytes);
    this.#showLines("problems", files ? problems : []);
    this.#showLines("warnings", files ? [...this.#leftOut, ...warnings] : []);
    this.#showLines("notice", []);
    const count = files ? this.#chosen.length : Number(this.#input("total").value);
    const words = this.#unitWords(kind);
    setText(this.#byId("start"), say(words, count < 1 ? "start" : "start_with", { count }));
    this.#input("start").disabled = files && (problems.length > 0 || this.#toRead > 0);
  }

  /** @param {boolean} files @param {number} bytes */
  #drawChosen(files, bytes) {
    const count = this.#chosen.length;
    setShown(this.#byId("chosen"), files && (count > 0 || this.#toRead > 0));
    this.#byId("choose").classList.toggle("slim", count > 0);
    const sum = say(this.#words, "chosen", { count, size: byteSize(bytes, this.#words) });
    setText(
      this.#byId("chosen-sum"),
      this.#toRead > 0 ? say(this.#words, "reading_files", { count: this.#toRead }) : sum,
    );
    this.#byId("chosen-names").replaceChildren(
      ...this.#chosen
        .slice(0, NAMES_SHOWN)
        .map(({ name, size }) =>
          make(
            "li",
            {},
            make("bdi", {}, harmless(name, NAME_LENGTH)),
            make("span", {}, byteSize(size, this.#words)),
          ),
        ),
    );
    const more = count - NAMES_SHOWN;
    setText(this.#byId("chosen-more"), more > 0 ? say(this.#words, "chosen_more", { count: more }) : "");
    setShown(this.#byId("chosen-more"), more > 0);
  }

  /** @param {string} id @param {string[]} lines */
  #showLines(id, lines) {
    this.#byId(id).replaceChildren(...lines.map((line) => make("p", {}, line)));
    setShown(this.#byId(id), lines.length > 0);
  }

  // --- sending
  async #send() {
    const kind = this.#kind;
    if (!kind || this.#abort) return;
    if (kind.needs_file && this.#chosen.length === 0)
      return this.#showLines("notice", [say(this.#words, "choose_first")]);
    const submission = {
      url: new URL("jobs", this.#api),
      kind: kind.name,
      options: optionValues(kind.options, this.#form),
      name: this.#input("name").value.trim(),
      files: kind.needs_file ? this.#chosen : [],
      total: kind.needs_file ? null : Number(this.#input("total").value),
    };
    const wait = this.#startAt - performance.now();
    if (this.#refused && wait > CLICK_PAUSE_MS) return this.#showRefusal(this.#refused);
    this.#abort = () => {}; // one is under way
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    const meter = new UploadMeter();
    let [sent, size] = [0, 0];
    const draw = () => {
      meter.add(performance.now(), sent);
      this.#drawUpload(sent, size, meter);
    };
    const { job, abort } = submit({ ...submission, key: this.#keyOf(submission) }, (...amounts) => {
      [sent, size] = amounts;
      draw();
    });
    const redraw = setInterval(draw, REDRAW_MS);
    this.#abort = abort;
    this.#beginUpload(kind.needs_file, meter);
    try {
      this.#started(await job, submission);
    } catch (error) {
      this.#failed(error);
    } finally {
      clearInterval(redraw);
      this.#page.onUpload("");
    }
  }

  /** Return the same key while the submission is the same: if its answer is lost, no second job is started.
   * @param {Omit<Submission, "key">} submission */
  #keyOf(submission) {
    const files = submission.files.map(({ file, name }) => [name, file.size, file.lastModified]);
    return this.#idempotencyKey.keyFor(
      JSON.stringify([submission.kind, submission.options, submission.name, submission.total, files]),
    );
  }

  /** @param {boolean} files @param {UploadMeter} meter */
  #beginUpload(files, meter) {
    setText(this.#byId("upload-title"), say(this.#words, "uploading", { count: files ? this.#chosen.length : 0 }));
    this.#drawUpload(0, 0, meter);
    this.#uploading(files);
    if (files) this.#byId("upload-title").focus();
  }

  /** @param {boolean} on */
  #uploading(on) {
    setShown(this.#byId("upload"), on);
    setShown(this.#form, !on);
  }

  /** @param {number} sent @param {number} size in bytes @param {UploadMeter} meter */
  #drawUpload(sent, size, meter) {
    const bar = /** @type {HTMLProgressElement} */ (this.#byId("upload-bar"));
    const all = size > 0 && sent >= size;
    if (all) bar.removeAttribute("value");
    else bar.value = size > 0 ? (100 * sent) / size : 0;
    const percent = size > 0 && !all ? percentText((100 * sent) / size, this.#words) : "";
    setText(this.#byId("upload-percent"), percent);
    const amount = all ? say(this.#words, "upload_accepting") : size > 0 ? this.#speed(sent, size, meter) : "";
    setText(this.#byId("upload-amount"), amount);
    if (percent) this.#page.onUpload(percent);
  }

  /** @param {number} sent @param {number} size in bytes @param {UploadMeter} meter */
  #speed(sent, size, meter) {
    const words = this.#words;
    const [rate, left] = [meter.rate, meter.left_s(size)];
    return [
      say(words, "upload_amount", { sent: byteSize(sent, words), size: byteSize(size, words) }),
      rate ? say(words, "upload_rate", { rate: byteSize(rate, words) }) : "",
      left !== null ? etaText(left, words) : "",
    ]
      .filter(Boolean)
      .join(" · ");
  }

  /** @param {Job} job @param {Omit<Submission, "key">} submission */
  #started(job, submission) {
    this.#abort = null;
    this.#submissions.set(job.id, submission);
    for (const id of [...this.#submissions.keys()].slice(0, -SUBMISSIONS_KEPT)) this.#submissions.delete(id);
    this.#idempotencyKey.renew();
    this.#uploading(false);
    this.#input("name").value = "";
    const sent = new Set(submission.files);
    this.#choose(
      this.#chosen.filter((file) => !sent.has(file)),
      [],
    ); // others were dropped meanwhile
    this.#byId("start").focus(); // the dialog returns the focus here
    this.#page.onStarted(job);
  }

  /** @param {unknown} error */
  #failed(error) {
    this.#abort = null;
    this.#uploading(false);
    this.#byId("start").focus();
    if (!(error instanceof SubmitError)) throw error;
    if (error.status === null && !error.cancelled) this.#page.onBroken();
    if (error.cancelled) return this.#showLines("notice", [say(this.#words, "upload_cancelled")]);
    this.#refused = error;
    this.#startAt = performance.now() + Math.max(CLICK_PAUSE_MS, askedPause(error));
    this.#showRefusal(error);
  }

  /** @param {SubmitError} error */
  #showRefusal(error) {
    const reason = refusal(error.problem, error.status, this.#words);
    const key = error.status === null ? "upload_broken" : "upload_failed";
    this.#showLines("problems", [say(this.#words, key, { reason })]);
  }
}

/** @param {Kind} kind @param {Words} words */
function kindChoice({ name, title, description, unavailable }, words) {
  const hint = unavailable
    ? say(words, "kind_unavailable", { reason: harmless(unavailable) })
    : plainText(description ?? "");
  return make(
    "label",
    { class: "kind-choice" },
    make("input", { type: "radio", name: "kind", value: name, disabled: Boolean(unavailable) }),
    make("strong", {}, title || name),
    make("span", { class: "hint" }, hint),
  );
}
