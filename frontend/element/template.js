/*
 * Builds the nodes of a job's card and draws a view on them. It decides the layout, touches a node only if
 * something changed, and bounds every list, so that a job of 10,000 files costs as much as one of 10.
 * It must not know what is said (../view/job-view.js does) or what a button does (job-progress.js does).
 * See also: styles.js; dom.js.
 */
import { say } from "../view/format.js";
import { make, setBadge, setShown, setText } from "./dom.js";
import { copyButton, itemRow, messageNodes } from "./item-row.js";

/** @import { Words } from "../wire" */
/** @import { JobView } from "../view/job-view.js" */
/** @typedef {ReturnType<typeof makeNodes>} Nodes */
/** @typedef {Nodes & {card: HTMLElement}} Card */

/** @typedef {object} CardContext what the element knows beyond the view
 * @property {boolean} modal
 * @property {string | null} signin
 * @property {string | null} zip
 * @property {string | null} errorsFile
 * @property {boolean} checking
 * @property {boolean} cancelling
 * @property {boolean} retrying
 * @property {boolean} retried */

/** Make the nodes of an empty card. @returns {Card} */
export function makeCard() {
  const nodes = makeNodes();
  return { ...nodes, card: assemble(nodes) };
}

function makeNodes() {
  return {
    title: make("h2", { id: "title", tabindex: "-1", dir: "auto", part: "title" }),
    kind: make("p", { class: "kind" }),
    badge: make("span", { class: "badge", part: "badge" }),
    meter: make("div"),
    percent: make("span", { class: "percent", part: "percent" }),
    eta: make("span", { class: "eta" }),
    bar: make("progress", { max: "100", part: "bar" }),
    amount: make("span", { class: "amount" }),
    rate: make("span", { class: "rate" }),
    counts: make("dl", { class: "counts", part: "counts" }),
    work: make("div", { class: "work" }),
    line: make("div", { class: "line" }),
    now: make("p", { class: "now" }),
    nowLabel: make("span", { class: "label" }),
    names: make("span", { class: "names" }),
    more: make("span", { class: "more" }),
    stage: make("p", { class: "stage", dir: "auto" }),
    note: make("p", { class: "note" }),
    sentence: make("p", { class: "sentence", tabindex: "-1", dir: "auto" }),
    reason: make("div", { class: "reason" }),
    problems: make("details", { class: "problems", part: "errors" }),
    problemsTitle: make("summary"),
    errors: make("ul", { class: "list", tabindex: "0" }),
    more_errors: make("div", { class: "pager" }),
    showAll: button("small"),
    errorsFile: make("a", { class: "button small", download: true }),
    allErrors: make("div"),
    results: make("details", { class: "results", part: "results" }),
    resultsTitle: make("summary"),
    allResults: make("div"),
    history: make("div"),
    kept: make("p", { class: "kept" }),
    link: make("div", { class: "link" }),
    linkText: make("p"),
    check: button("small"),
    keep: button("small primary"),
    signIn: make("a", { class: "button small primary" }),
    answer: make("p", { class: "answer", role: "alert", hidden: true }),
    footer: make("footer", { part: "footer" }),
    cancel: button("cancel"),
    notify: button("notify"),
    create: button("create primary"),
    retry: button("retry primary"),
    download: make("a", { class: "button", download: true }),
    close: button("close"),
    live: make("div", { class: "unseen", role: "status" }),
  };
}

/** @param {string} classes */
function button(classes) {
  return make("button", { type: "button", class: classes });
}

/** @param {Nodes} n */
function assemble(n) {
  n.now.append(n.nowLabel, n.names, n.more);
  n.work.append(n.now);
  n.line.append(n.stage, n.note, n.answer);
  n.more_errors.append(make("span"), n.errorsFile, n.showAll);
  n.problems.append(n.problemsTitle, n.errors, n.allErrors, n.more_errors);
  n.results.append(n.resultsTitle, n.allResults);
  n.link.append(n.linkText, n.signIn, n.keep, n.check);
  n.footer.append(n.cancel, n.notify, n.create, n.retry, n.download, n.close);
  n.meter.append(
    make("div", { class: "figures main" }, n.percent, n.eta),
    n.bar,
    make("div", { class: "figures" }, n.amount, n.rate),
  );
  // Outside the body, which scrolls: the state and the link are always in view.
  const header = make(
    "header",
    { part: "header" },
    make("div", { class: "head" }, make("div", {}, n.title, n.kind), n.badge),
    n.link,
  );
  const body = make(
    "div",
    { class: "body" },
    n.sentence,
    n.reason,
    n.meter,
    n.counts,
    n.work,
    n.line,
    n.problems,
    n.results,
    n.history,
    n.kept,
  );
  return make("section", { class: "card", part: "card" }, header, body, n.footer, n.live);
}

/** Draw a view. @param {Card} card @param {JobView} shown @param {CardContext} context @param {Words} words */
export function drawCard(card, shown, context, words) {
  setText(card.title, shown.title);
  card.title.title = shown.full_title;
  setBadge(card.badge, shown.badge);
  for (const name of /** @type {const} */ (["kind", "sentence", "note", "kept"])) {
    setText(card[name], shown[name]);
    setShown(card[name], shown[name] !== "");
  }
  drawNumbers(card, shown);
  drawCounts(card.counts, shown.counts);
  drawWork(card, shown, words);
  drawReason(card.reason, shown, words);
  drawErrors(card, shown, context, words);
  drawLink(card, shown);
  drawButtons(card, shown, context, words);
}

/** @param {Card} card @param {JobView} shown */
function drawNumbers(card, shown) {
  for (const name of /** @type {const} */ (["percent", "eta", "amount", "rate"])) setText(card[name], shown[name]);
  setShown(card.meter, shown.meter);
  setShown(card.work, shown.meter && !shown.done);
  for (const figures of [card.percent, card.amount].map((one) => one.parentElement))
    if (figures) setShown(figures, !shown.done);
  card.line.classList.toggle("reserved", shown.meter && !shown.done);
  card.bar.className = shown.bar.tone;
  card.bar.setAttribute("aria-label", shown.bar.label);
  if (shown.bar.value === null) card.bar.removeAttribute("value");
  else card.bar.value = shown.bar.value;
}

/** @param {HTMLElement} list @param {JobView["counts"]} counts */
function drawCounts(list, counts) {
  setShown(list, counts.length > 0);
  while (list.children.length > counts.length) list.lastElementChild?.remove();
  counts.forEach(({ label, value, tone }, place) => {
    const row = list.children[place] ?? list.appendChild(make("div", {}, make("dt"), make("dd")));
    const [term, number] = [row.firstElementChild, row.lastElementChild];
    if (!term || !number) return;
    setText(term, label);
    setText(number, value);
    number.className = tone;
  });
}

/** @param {Card} card @param {JobView} shown @param {Words} words */
function drawWork(card, shown, words) {
  const { names, more } = shown.current;
  setText(card.nowLabel, names.length ? say(words, "now_working_on") : "");
  const drawn = [...card.names.children].map((node) => node.textContent).join("\n");
  if (drawn !== names.join("\n"))
    card.names.replaceChildren(...names.flatMap((name, place) => [place > 0 ? ", " : "", make("bdi", {}, name)]));
  setText(card.more, more);
  setText(card.stage, shown.stage);
  setShown(card.stage, shown.stage !== "");
}

/** Show the whole error of a job; it does not change once the job is done.
 * @param {HTMLElement} node @param {JobView} shown @param {Words} words */
function drawReason(node, { reason }, words) {
  setShown(node, reason !== null);
  if (reason === null || node.hasChildNodes()) {
    if (reason === null) node.replaceChildren();
    return;
  }
  node.append(...messageNodes(reason, words), copyButton(reason, words));
}

/** @param {Card} card @param {JobView} shown @param {CardContext} context @param {Words} words */
function drawErrors(card, shown, context, words) {
  // The section is there from the start, folded until the end: failures change its title, but move nothing.
  setShown(card.problems, shown.failed > 0 || (shown.meter && !shown.done));
  card.problems.classList.toggle("none", shown.failed === 0);
  if (shown.done && !card.problems.hasAttribute("data-done")) card.problems.open = shown.failed > 0;
  card.problems.toggleAttribute("data-done", shown.done);
  setText(
    card.problemsTitle,
    shown.failed > 0 ? say(words, "problems", { count: shown.failed }) : say(words, "no_problems"),
  );
  card.errors.setAttribute("aria-label", card.problemsTitle.textContent ?? "");
  // Failed items are only ever added, so existing rows never change.
  while (card.errors.children.length > shown.errors.length) card.errors.lastElementChild?.remove();
  card.errors.append(...shown.errors.slice(card.errors.children.length).map((line) => itemRow(line, words)));
  const paged = card.allErrors.hasChildNodes();
  setShown(card.errors, !paged && shown.errors.length > 0);
  setShown(card.showAll, !paged && shown.failed > shown.errors.length);
  setText(card.showAll, say(words, "show_failed", { count: shown.failed }));
  setText(card.errorsFile, say(words, "errors_file"));
  setShown(card.errorsFile, shown.errors_file);
  card.errorsFile.href = context.errorsFile ?? "";
  setShown(card.more_errors, shown.failed > 0);
}

/** @param {Card} card @param {JobView} shown */
function drawLink(card, shown) {
  card.linkText.className = shown.link.tone;
  const parts = [shown.link.text, shown.link.age, shown.link.found].filter(Boolean);
  setText(
    card.linkText,
    parts.length > 0 ? parts.reduce((text, part) => `${text}${/[.…]$/.test(text) ? " " : " · "}${part}`) : "",
  );
  setShown(card.link, parts.length > 0);
}

/** @param {Card} card @param {JobView} shown @param {CardContext} context @param {Words} words */
function drawButtons(card, shown, context, words) {
  const { cancel, check, keep_watching: keep, sign_in: signIn, create_new: create, notify, retry } = shown.buttons;
  setButton(card.cancel, cancel, context.cancelling);
  setButton(card.check, check, context.checking);
  setButton(card.keep, keep, context.checking);
  setButton(card.create, create, false);
  setButton(card.notify, notify, false);
  setButton(card.retry, retry, context.retrying);
  setText(card.signIn, signIn.text);
  card.signIn.href = context.signin ?? "";
  setShown(card.signIn, signIn.shown && context.signin !== null);
  setText(card.close, say(words, "close"));
  setShown(card.close, context.modal);
  setText(card.download, say(words, "download_all"));
  card.download.href = context.zip ?? "";
  setShown(card.download, shown.download);
  card.retry.classList.toggle("primary", !context.retried);
  card.download.classList.toggle("primary", !retry.shown || context.retried); // at most one primary button
  setText(card.resultsTitle, say(words, "results"));
  setShown(card.results, shown.results);
  setShown(
    card.footer,
    [card.cancel, card.notify, card.create, card.close, card.download, card.retry].some((one) => !one.hidden),
  );
}

/**
 * @param {HTMLButtonElement} node
 * @param {{shown: boolean, enabled: boolean, text: string}} button
 * @param {boolean} busy
 */
function setButton(node, button, busy) {
  setText(node, button.text);
  setShown(node, button.shown);
  node.disabled = !button.enabled;
  if (busy) node.setAttribute("aria-busy", "true");
  else node.removeAttribute("aria-busy");
}
