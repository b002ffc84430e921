/*
 * Makes DOM nodes: text from outside becomes text, never markup, and styles come from style sheets only, as a
 * strict Content-Security-Policy demands.
 * It must not know jobs.
 * See also: template.js, which builds the element's nodes with it.
 */

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * Make an element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | boolean | null | undefined>} [attributes] true sets an empty attribute; false,
 *   null and undefined set none
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => typeof child === "string" || child instanceof Node));
  return node;
}

/** Set the text only if it changed, so that a selection is kept and nothing is announced twice.
 * @param {Element} node @param {string} text */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Show or hide a node. @param {Element} node @param {boolean} shown */
export function setShown(node, shown) {
  if (node.hasAttribute("hidden") === shown) node.toggleAttribute("hidden", !shown);
}

const SVG = "http://www.w3.org/2000/svg";
/** One path per icon, in a box of 16 by 16. The shape alone tells the state. @type {Record<string, string>} */
const STROKES = {
  quiet: "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11 M8 5v3.2l2 1.6",
  busy: "M8 2.5a5.5 5.5 0 1 1-5.5 5.5",
  good: "M3 8.5l3.4 3.4L13 5",
  warn: "M8 2.2l6.2 11.3H1.8z M8 6.6v3.2 M8 11.6v.1",
  bad: "M4 4l8 8 M12 4l-8 8",
  stopped: "M4 4h8v8H4z",
  lost: "M6.6 4.4l1.2-1.2a3.1 3.1 0 0 1 4.4 4.4L11 8.8 M9.4 11.6l-1.2 1.2a3.1 3.1 0 0 1-4.4-4.4L5 7.2 M2.5 2.5l11 11",
  file: "M4 1.8h5.2L12.5 5v9.2H4z M9 1.8V5.2h3.4",
  folder: "M1.8 12.8V3.2h4.4l1.6 2h6.4v7.6z",
  up: "M8 11V2.8 M4.4 6.2L8 2.6l3.6 3.6 M2.5 10.5v3h11v-3",
  down: "M8 2.5v8 M4.4 7.2L8 10.8l3.6-3.6 M2.5 13.5h11",
  remove: "M4 4l8 8 M12 4l-8 8",
};

/** Make a decorative icon; text always stands beside it. @param {string} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", `icon ${name}`);
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", STROKES[name] ?? STROKES.quiet ?? "");
  svg.append(path);
  return svg;
}

/** Show a state as text and icon, never by colour alone. The DOM changes only if the badge did.
 * @param {HTMLElement} node @param {{text: string, tone: string}} badge */
export function setBadge(node, badge) {
  if (node.textContent === badge.text && node.classList.contains(badge.tone)) return;
  node.className = `badge ${badge.tone}`;
  node.replaceChildren(icon(badge.tone), badge.text);
}
