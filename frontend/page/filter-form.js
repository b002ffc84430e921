/*
 * Shows the filter of the list of jobs: a choice among groups of states, and a part of the name. What is typed counts
 * after a short pause.
 * It must not know which jobs there are.
 * See also: job-filter.js, which decides what a filter means.
 */
import { make, setShown, setText } from "../element/dom.js";
import { say } from "../view/format.js";
import { EVERYTHING, groupOf, GROUPS, isFiltered } from "./job-filter.js";

/** @import { Words } from "../wire" */
/** @import { Filter } from "./job-filter.js" */

const TYPING_MS = 300;

/** The form above the list. */
export class FilterForm {
  #form;
  #name;
  #groups;
  #found;
  #clear;
  /** @type {Words} */ #words;
  /** @type {(filter: Filter) => void} */ #onChange;
  /** @type {Filter} */ #filter;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #typing;

  /** @param {{byId: (id: string) => HTMLElement, words: Words, filter: Filter, onChange: (filter: Filter) => void}} of */
  constructor({ byId, words, filter, onChange }) {
    [this.#words, this.#filter, this.#onChange] = [words, filter, onChange];
    this.#form = byId("filter");
    this.#found = byId("filter-found");
    this.#clear = byId("filter-clear");
    this.#name = /** @type {HTMLInputElement} */ (byId("filter-name"));
    this.#groups = Object.keys(GROUPS).map((group) =>
      make("input", { type: "radio", name: "group", value: group, class: "unseen" }),
    );
    byId("filter-groups").append(
      ...this.#groups.map((radio) => make("label", { class: "chip" }, radio, say(words, `filter_${radio.value}`))),
    );
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#form.addEventListener("change", () => this.#apply());
    this.#name.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#apply(), TYPING_MS);
    });
    this.#clear.addEventListener("click", () => {
      this.#fill(EVERYTHING);
      this.#apply();
      this.#name.focus();
    });
    this.#name.placeholder = say(words, "filter_name");
    this.#fill(filter);
  }

  /**
   * Say how many jobs match. The form is shown once there is something to filter.
   * @param {{count: number, loaded: boolean, more: boolean}} found
   */
  draw({ count, loaded, more }) {
    const filtered = isFiltered(this.#filter);
    const key = `filter_${count > 0 ? "found" : "none"}${more ? "_so_far" : ""}`;
    setText(this.#found, filtered && loaded ? say(this.#words, key, { count }) : "");
    setShown(this.#clear, filtered);
    if (loaded) setShown(this.#form, filtered || count > 0);
  }

  #apply() {
    clearTimeout(this.#typing);
    const group = this.#groups.find((radio) => radio.checked)?.value;
    const states = group === undefined ? this.#filter.states : (GROUPS[group] ?? []);
    const filter = { states, name: this.#name.value.trim() };
    if (filter.name === this.#filter.name && filter.states.join() === this.#filter.states.join()) return;
    this.#filter = filter;
    this.#onChange(filter);
  }

  /** @param {Filter} filter */
  #fill(filter) {
    this.#name.value = filter.name;
    for (const radio of this.#groups) radio.checked = radio.value === groupOf(filter);
  }
}
