/*
 * Shows the items of a job in one state, a page at a time: at most 50 rows are in the document.
 * It must not know streams or jobs, only the items endpoint and its cursor.
 * See also: item-row.js for a row; ../view/item-line.js for its text.
 */
import { say } from "../view/format.js";
import { itemLine } from "../view/item-line.js";
import { refusal } from "../view/job-view.js";
import { english } from "../view/locale/en.js";
import { make, setShown, setText } from "./dom.js";
import { itemRow } from "./item-row.js";

/** @import { Requests } from "../client/requests.js" */
/** @import { Item, Words } from "../wire" */

const ROWS = 50;

/** A list of items with buttons to turn pages. */
export class ItemPages {
  root = make("div", { class: "items" });
  #list = make("ul", { class: "list", tabindex: "0" });
  #place = make("span", { role: "status" });
  #update = make("button", { type: "button", class: "small", hidden: true });
  #first = make("button", { type: "button", class: "small" });
  #next = make("button", { type: "button", class: "small" });
  #again = make("button", { type: "button", class: "small", hidden: true });
  #from = 0;
  /** Where the page shown begins, and the next one. @type {string | null} */ #start = null;
  /** @type {string | null} */ #cursor = null;
  /** @type {URL} */ #url;
  /** @type {string} */ #state;
  /** @type {number} */ #count;
  /** @type {Requests} */ #requests;
  #retry = () => {};
  /** @type {Words} */ #words;

  /**
   * @param {{url: URL, state: string, count: number, label: string, requests: Requests, words?: Words}} options
   */
  constructor({ url, state, count, label, requests, words = english }) {
    this.#url = url;
    this.#state = state;
    this.#count = count;
    this.#requests = requests;
    this.#words = words;
    this.#list.setAttribute("aria-label", label);
    this.#update.textContent = say(words, "update_list");
    this.#update.addEventListener("click", () => this.#load(this.#from, this.#start));
    this.#first.textContent = say(words, "first_page");
    this.#next.textContent = say(words, "next_page");
    this.#again.textContent = say(words, "try_again");
    for (const turn of [this.#first, this.#next]) setShown(turn, false); // until there are pages to turn to
    this.#first.addEventListener("click", () => this.#load(0, null));
    this.#next.addEventListener("click", () => this.#load(this.#from + ROWS, this.#cursor));
    this.#again.addEventListener("click", () => this.#retry());
    this.root.append(
      this.#list,
      make("div", { class: "pager" }, this.#place, this.#again, this.#update, this.#first, this.#next),
    );
  }

  /** Update the number of items. Rows never move by themselves: a button loads what is new.
   * @param {number} count */
  recount(count) {
    if (count === this.#count) return;
    this.#count = count;
    this.#drawPlace();
    setShown(this.#update, this.#cursor === null);
  }

  /** Load the first page. */
  show() {
    return this.#load(0, null);
  }

  /** @param {number} from @param {string | null} cursor */
  async #load(from, cursor) {
    if (this.root.hasAttribute("aria-busy")) return;
    this.root.setAttribute("aria-busy", "true");
    setText(this.#place, say(this.#words, "items_loading"));
    const url = new URL(this.#url);
    url.search = new URLSearchParams({
      state: this.#state,
      limit: String(ROWS),
      ...(cursor ? { cursor } : {}),
    }).toString();
    const answer = await this.#requests.send(url.href);
    this.root.removeAttribute("aria-busy");
    const loaded = answer !== null && answer.ok && Array.isArray(answer.body.items);
    this.#retry = () => this.#load(from, cursor);
    if (!loaded) return this.#fail(refusal(answer?.body ?? null, answer?.status ?? null, this.#words));
    [this.#from, this.#start, this.#cursor] = [from, cursor, answer.body.next];
    this.#draw(answer.body.items);
  }

  /** Keep the page that is shown, and offer to load the other one again. @param {string} reason */
  #fail(reason) {
    setText(this.#place, say(this.#words, "items_failed", { reason }));
    setShown(this.#again, true);
  }

  /** @param {Item[]} items */
  #draw(items) {
    const rows = items.slice(0, ROWS).map((item) => {
      const href = item.links?.result ? new URL(item.links.result, this.#url).href : null;
      return itemRow(itemLine(item, this.#words), this.#words, href);
    });
    this.#list.replaceChildren(...rows);
    this.#list.scrollTop = 0;
    setShown(this.#list, items.length > 0);
    this.#drawPlace();
    setShown(this.#update, false);
    const retried = this.#again.matches(":focus");
    setShown(this.#again, false);
    if (retried) this.#list.focus();
    setShown(this.#first, this.#from > 0);
    setShown(this.#next, this.#cursor !== null);
  }

  #drawPlace() {
    if (this.root.hasAttribute("aria-busy")) return; // drawn once the page is loaded
    const [rows, to] = [this.#list.childElementCount, this.#from + this.#list.childElementCount];
    const values = { from: this.#from + 1, to, count: Math.max(this.#count, to) };
    setText(this.#place, rows > 0 ? say(this.#words, "page_of", values) : say(this.#words, "no_items"));
  }
}
