/*
 * Holds the styles of <job-progress> as a constructed style sheet, which applies at once and under any
 * Content-Security-Policy. Colours follow the page's color-scheme, and a page can set any --unstuck-* property.
 * It must not hold behaviour or texts.
 * See also: template.js for the nodes; ../page/app.css for the batch page's styles.
 */

const css = String.raw; // prettier formats what has this tag

const text = css`
  :host {
    --ink: var(--unstuck-ink, light-dark(#1c2530, #e8ecf2));
    --muted: var(--unstuck-muted, light-dark(#566273, #a3afbf));
    --paper: var(--unstuck-paper, light-dark(#ffffff, #1b222c));
    --sunk: var(--unstuck-sunk, light-dark(#f2f4f7, #232c38));
    --line: var(--unstuck-line, light-dark(#dde2e9, #333e4c));
    --accent: var(--unstuck-accent, light-dark(#2458c7, #86aefc));
    /* black or white, whichever can be read on the accent */
    --on-accent: var(--unstuck-on-accent, oklch(from var(--accent) clamp(0, (0.62 - l) * 1000, 1) 0 0));
    --good: var(--unstuck-good, light-dark(#16693a, #6fd09a));
    --warn: var(--unstuck-warn, light-dark(#855000, #f0bd62));
    --bad: var(--unstuck-bad, light-dark(#b02a20, #ff9c92));
    --good-wash: color-mix(in oklab, var(--good) 11%, var(--paper));
    --warn-wash: color-mix(in oklab, var(--warn) 11%, var(--paper));
    --bad-wash: color-mix(in oklab, var(--bad) 11%, var(--paper));
    --busy-wash: color-mix(in oklab, var(--accent) 11%, var(--paper));
    /* text in the accent: a page may choose one that is too light to be read on its own wash */
    --accent-text: color-mix(in oklab, var(--accent) 45%, var(--ink));
    --radius: var(--unstuck-radius, 0.875rem);
    --inner-radius: calc(var(--radius) * 0.7);
    --bar-height: var(--unstuck-bar-height, 0.625rem);
    display: block;
    color: var(--ink);
    font: 1rem/1.5 var(--unstuck-font, system-ui, sans-serif);
    font-variant-numeric: tabular-nums;
    text-align: start;
  }
  :host([modal]) {
    display: contents;
  }
  /* The room that the card has counts, not the window's. Where the page lets the card choose, it has 32 rem. */
  .card {
    container-type: inline-size;
    contain-intrinsic-inline-size: 32rem;
  }
  :host([hidden]),
  :host(:not([src])), /* there is nothing to show */
  [hidden] {
    display: none !important;
  }
  * {
    box-sizing: border-box;
  }
  h2,
  p,
  dl,
  dd,
  ul,
  ol {
    margin: 0;
    padding: 0;
  }
  ul,
  ol {
    list-style: none;
  }
  bdi {
    unicode-bidi: isolate;
  }

  dialog {
    border: 0;
    padding: 0;
    margin: min(2rem, 4dvh) auto auto; /* held at its top: text that grows moves no button */
    background: none;
    color: inherit;
    width: min(36rem, calc(100vw - 1.5rem));
    height: min(46rem, 100dvh - 2 * min(2rem, 4dvh));
    max-width: none;
    max-height: none;
    overflow: visible;
  }
  dialog::backdrop {
    background: rgb(10 16 26 / 0.5);
    backdrop-filter: blur(2px);
  }
  .card {
    background: var(--paper);
    border: 1px solid var(--line);
    border-radius: var(--radius);
    display: flex;
    flex-direction: column;
    overflow: hidden;
  }
  dialog .card {
    height: 100%;
    box-shadow: 0 1.25rem 3.5rem rgb(10 16 26 / 0.28);
  }
  .body {
    padding: 1.125rem 1.5rem 1.25rem;
    display: grid;
    grid-template-columns: minmax(0, 1fr);
    grid-auto-rows: max-content;
    gap: 1.125rem;
    flex: 1 1 auto;
    overflow: auto;
    overscroll-behavior: contain;
  }
  header {
    flex: none;
    display: grid;
    grid-template-columns: minmax(0, 1fr);
    gap: 0.5rem;
    padding: 1.5rem 1.5rem 0.625rem;
    border-bottom: 1px solid var(--line);
  }
  .head {
    display: flex;
    gap: 0.75rem 1rem;
    align-items: flex-start;
    justify-content: space-between;
  }
  .head > div {
    min-width: 0;
  }
  h2 {
    font-size: 1.125rem;
    line-height: 1.35;
    font-weight: 650;
    overflow-wrap: anywhere;
    outline: 0;
    display: -webkit-box;
    -webkit-box-orient: vertical;
    -webkit-line-clamp: 4;
    overflow: hidden;
  }
  .kind {
    color: var(--muted);
    font-size: 0.875rem;
  }
  .retries {
    display: flex;
    flex-wrap: wrap;
    gap: 0 1rem;
    font-size: 0.875rem;
  }
  button.link {
    padding: 0.125rem 0;
    border: 0;
    background: none;
    color: var(--accent);
    font: inherit;
    text-align: start;
    text-decoration: underline;
    text-underline-offset: 0.2em;
    white-space: normal;
    overflow-wrap: anywhere;
  }

  .badge {
    display: inline-flex;
    align-items: center;
    gap: 0.375rem;
    flex: none;
    padding: 0.1875rem 0.625rem 0.1875rem 0.5rem;
    border-radius: 99px;
    font-size: 0.8125rem;
    font-weight: 600;
    white-space: nowrap;
    background: var(--sunk);
    color: var(--muted);
    border: 1px solid transparent;
  }
  .badge.busy {
    background: var(--busy-wash);
    color: var(--accent-text);
  }
  .badge .icon.busy {
    stroke: var(--accent);
  }
  .badge.good {
    background: var(--good-wash);
    color: var(--good);
  }
  .badge.warn,
  .badge.lost {
    background: var(--warn-wash);
    color: var(--warn);
  }
  .badge.bad {
    background: var(--bad-wash);
    color: var(--bad);
  }
  .icon {
    width: 0.875rem;
    height: 0.875rem;
    flex: none;
    fill: none;
    stroke: currentColor;
    stroke-width: 1.75;
    stroke-linecap: round;
    stroke-linejoin: round;
  }
  .icon.busy {
    animation: turn 1.2s linear infinite;
  }
  @keyframes turn {
    to {
      transform: rotate(1turn);
    }
  }

  .figures {
    display: flex;
    justify-content: space-between;
    align-items: baseline;
    gap: 0 1rem;
    min-height: 1.5rem;
    color: var(--muted);
    font-size: 0.9375rem;
  }
  .figures.main {
    min-height: 2.75rem;
  }
  .percent {
    font-size: 2.25rem;
    line-height: 1.2;
    font-weight: 650;
    letter-spacing: -0.02em;
    color: var(--ink);
  }
  .amount,
  .rate,
  .eta {
    white-space: nowrap;
  }
  progress {
    appearance: none;
    display: block;
    width: 100%;
    height: var(--bar-height);
    margin: 0.25rem 0 0.5rem;
    border: 0;
    border-radius: 99px;
    overflow: hidden;
    background: var(--sunk);
    color: var(--fill);
    --fill: var(--accent);
  }
  progress.good {
    --fill: var(--good);
  }
  progress.warn {
    --fill: var(--warn);
  }
  progress.bad {
    --fill: var(--bad);
  }
  progress.quiet,
  progress.stopped,
  progress.lost {
    --fill: var(--muted);
  }
  progress::-webkit-progress-bar {
    background: var(--sunk);
    box-shadow: inset 0 0 0 1px var(--line);
    border-radius: 99px;
  }
  progress::-webkit-progress-value {
    background: var(--fill);
    border-radius: 99px;
    transition: inline-size 0.3s ease-out;
  }
  progress::-moz-progress-bar {
    background: var(--fill);
    border-radius: 99px;
  }
  progress:indeterminate {
    background: linear-gradient(90deg, transparent 0 30%, var(--fill) 50%, transparent 70% 100%) 0 0 / 200% 100%
      var(--sunk);
    animation: slide 1.8s linear infinite;
  }
  progress.stopped:indeterminate,
  progress.bad:indeterminate,
  progress.lost:indeterminate {
    background: repeating-linear-gradient(-45deg, var(--fill) 0 0.375rem, var(--sunk) 0.375rem 0.75rem);
    animation: none; /* it would look alive */
  }
  progress:indeterminate::-webkit-progress-bar {
    background: none;
  }
  progress:indeterminate::-moz-progress-bar {
    background: none;
  }
  @keyframes slide {
    from {
      background-position: 200% 0;
    }
    to {
      background-position: 0 0;
    }
  }

  .counts {
    display: grid;
    grid-auto-flow: column;
    grid-auto-columns: minmax(0, 1fr);
    border: 1px solid var(--line);
    border-radius: var(--inner-radius);
    overflow: hidden;
    background: var(--line);
    gap: 1px;
  }
  .counts div {
    background: var(--paper);
    padding: 0.5rem 0.875rem 0.5625rem;
    display: flex;
    flex-direction: column-reverse;
    justify-content: flex-end;
    min-width: 0;
  }
  .counts dt {
    font-size: 0.8125rem;
    color: var(--muted);
  }
  .counts dd {
    font-size: 1.125rem;
    font-weight: 600;
    line-height: 1.35;
  }
  .counts dd.bad {
    color: var(--bad);
  }
  .work {
    min-height: 1.375rem;
    font-size: 0.9375rem;
  }
  /* What there is to say about the work: one thing at a time, in room that is always there. */
  .line {
    display: grid;
    align-items: start;
  }
  .line.reserved {
    min-height: 4.5rem;
  }
  .line:not(.reserved):not(:has(> :not([hidden]))) {
    display: none;
  }
  .line:has(> .answer:not([hidden])) > :not(.answer),
  .line:has(> .note:not([hidden])) > .stage {
    display: none;
  }
  .now {
    display: flex;
    gap: 0.625rem;
    min-width: 0;
  }
  .now .label,
  .now .more {
    color: var(--muted);
    flex: none;
  }
  .now .names {
    min-width: 0;
    overflow: hidden;
    text-overflow: ellipsis;
    white-space: nowrap;
  }
  .stage {
    color: var(--muted);
    font-size: 0.9375rem;
    overflow-wrap: anywhere;
    display: -webkit-box;
    -webkit-box-orient: vertical;
    -webkit-line-clamp: 2;
    overflow: hidden;
  }
  .kept {
    color: var(--muted);
    font-size: 0.875rem;
  }
  .note,
  .answer {
    padding: 0.625rem 0.875rem;
    border-radius: var(--inner-radius);
    background: var(--warn-wash);
    color: var(--warn);
    font-size: 0.9375rem;
  }
  .answer {
    background: var(--sunk);
    color: var(--ink);
  }
  .answer.bad {
    background: var(--bad-wash);
    color: var(--bad);
  }
  .sentence {
    font-size: 1.0625rem;
    font-weight: 550;
    overflow-wrap: anywhere;
    outline: 0;
  }

  .reason {
    display: grid;
    gap: 0.25rem;
    justify-items: start;
    font-size: 0.875rem;
  }
  details {
    border: 1px solid var(--line);
    border-radius: var(--inner-radius);
    overflow: clip; /* else Firefox draws a scroll bar over the corner */
  }
  summary {
    padding: 0.5625rem 0.875rem;
    font-weight: 600;
    font-size: 0.9375rem;
    cursor: pointer;
    border-radius: var(--inner-radius);
  }
  .problems summary {
    color: var(--bad);
  }
  .problems.none summary,
  .results summary {
    color: var(--muted);
  }
  .list {
    border-top: 1px solid var(--line);
  }
  :host(:not([modal])) .list {
    max-height: 13.5rem;
    overflow: auto; /* in a dialog its body scrolls, and nothing else */
  }
  .list li {
    padding: 0.5rem 0.875rem;
    display: grid;
    grid-template-columns: minmax(0, 1fr) auto;
    gap: 0 0.75rem;
    font-size: 0.875rem;
    overflow-wrap: anywhere;
  }
  .list li + li {
    border-top: 1px solid var(--line);
  }
  .list bdi {
    font-weight: 550;
  }
  .list .message,
  .list .inner,
  .list .fold {
    grid-column: 1 / -1;
  }
  .message {
    color: var(--muted);
  }
  .whole {
    white-space: pre-wrap;
    overflow-wrap: anywhere;
    user-select: text;
  }
  .folded {
    display: -webkit-box;
    -webkit-box-orient: vertical;
    -webkit-line-clamp: 4;
    overflow: hidden;
  }
  .list a,
  .copy {
    align-self: start;
  }
  .fold {
    justify-self: start;
  }
  .inner {
    margin-top: 0.25rem;
    border: 0;
    overflow: visible;
  }
  .inner > summary {
    padding: 0.125rem 0;
    font-size: inherit;
    font-weight: 550;
    color: var(--accent-text);
  }
  .entries {
    display: grid;
    gap: 0.25rem;
    padding-block: 0.25rem;
  }
  .entries > div {
    display: grid;
    grid-template-columns: minmax(4rem, 10rem) minmax(0, 1fr);
    gap: 0 0.75rem;
  }
  .entries > .nested {
    grid-template-columns: minmax(0, 1fr);
  }
  .entries dt {
    color: var(--muted);
    overflow-wrap: anywhere;
  }
  .entries .entries {
    padding-inline-start: 0.75rem;
    border-inline-start: 2px solid var(--line);
  }
  .table {
    overflow-x: auto;
    overscroll-behavior-x: contain;
  }
  table {
    border-collapse: collapse;
    font-size: 0.8125rem;
  }
  th,
  td {
    padding: 0.25rem 0.5rem;
    border-bottom: 1px solid var(--line);
    text-align: start;
    vertical-align: top;
    max-width: 14rem;
    min-width: 3rem;
    white-space: pre-wrap;
    overflow-wrap: break-word;
  }
  td.short {
    white-space: pre;
  }
  th {
    color: var(--muted);
    font-weight: 600;
    white-space: nowrap;
  }
  td.number {
    text-align: end;
  }
  .timeline summary {
    color: var(--muted);
  }
  .timeline bdi {
    margin-inline-end: 0.375rem;
  }
  .timeline time {
    color: var(--muted);
    white-space: nowrap;
  }
  .timeline .message {
    grid-column: auto;
  }
  .timeline .ago {
    text-align: end;
    white-space: nowrap;
  }
  .pager {
    display: flex;
    flex-wrap: wrap;
    gap: 0.5rem 0.75rem;
    align-items: center;
    padding: 0.5rem 0.875rem;
    border-top: 1px solid var(--line);
    font-size: 0.875rem;
    color: var(--muted);
  }
  .pager span {
    margin-inline-end: auto;
  }

  .link {
    display: flex;
    flex-wrap: wrap;
    gap: 0.375rem 0.75rem;
    align-items: center;
    justify-content: space-between;
    font-size: 0.875rem;
    color: var(--muted);
    min-height: 2.75rem; /* two lines, so that a lost link moves nothing below */
  }
  .link p {
    display: flex;
    gap: 0.5rem;
    align-items: baseline;
    flex: 1 1 8rem;
  }
  .link p::before {
    content: "";
    width: 0.5rem;
    height: 0.5rem;
    flex: none;
    border-radius: 50%;
    border: 2px solid currentColor;
  }
  .link .good::before {
    background: var(--good);
    border-color: var(--good);
  }
  .link .busy::before {
    background: var(--accent);
    border-color: var(--accent);
  }
  .link .warn {
    color: var(--warn);
    flex-basis: 14rem;
  }
  .link .warn::before {
    border-radius: 1px;
    transform: rotate(45deg);
  }
  footer {
    display: flex;
    flex-wrap: wrap;
    gap: 0.625rem;
    justify-content: flex-end;
    padding: 0.875rem 1.5rem;
    border-top: 1px solid var(--line);
    background: var(--sunk);
  }
  footer .cancel {
    margin-inline-end: auto;
  }

  button,
  a.button {
    font: inherit;
    font-size: 0.9375rem;
    font-weight: 550;
    line-height: 1.4;
    padding: 0.4375rem 1rem;
    border-radius: 0.5rem;
    border: 1px solid var(--line);
    background: var(--paper);
    color: var(--ink);
    cursor: pointer;
    text-decoration: none;
    white-space: nowrap;
    display: inline-flex;
    gap: 0.5rem;
    align-items: center;
  }
  button:hover,
  a.button:hover {
    border-color: var(--muted);
  }
  button:disabled {
    color: var(--muted);
    cursor: default;
    border-color: var(--line);
  }
  button[aria-busy="true"] {
    cursor: progress;
  }
  .primary {
    background: var(--accent) !important;
    border-color: var(--accent) !important;
    color: var(--on-accent) !important;
  }
  .cancel:not(:disabled) {
    color: var(--bad);
  }
  .small {
    font-size: 0.875rem !important;
    padding: 0.25rem 0.75rem !important;
  }
  .plain {
    padding: 0;
    border: 0;
    background: none;
    color: var(--accent-text);
    font-size: inherit;
    font-weight: 500;
    text-decoration: underline;
    text-underline-offset: 0.2em;
  }
  a {
    color: var(--accent-text);
    text-underline-offset: 0.2em;
  }
  :focus-visible {
    outline: 3px solid var(--accent);
    outline-offset: 2px;
  }
  [tabindex="-1"]:focus-visible {
    outline: 0; /* focused by script, for screen readers */
  }
  summary:focus-visible,
  details :focus-visible {
    outline-offset: -3px;
  }
  .unseen {
    position: absolute;
    width: 1px;
    height: 1px;
    margin: -1px;
    overflow: hidden;
    clip-path: inset(50%);
    white-space: nowrap;
  }

  @media (max-height: 30rem) {
    dialog .card {
      overflow: auto;
    }
    dialog .body {
      flex: none;
      overflow: visible;
    }
    dialog header {
      padding: 0.75rem 1rem;
    }
    dialog h2 {
      font-size: 1rem;
      -webkit-line-clamp: 2;
    }
    dialog .kind {
      display: none;
    }
    dialog .link {
      min-height: 0;
    }
  }
  @container (max-width: 30rem) {
    header {
      padding: 1.125rem 1.125rem 0.625rem;
    }
    .body {
      padding: 1rem 1.125rem;
      gap: 1rem;
    }
    footer {
      padding: 0.75rem 1.125rem;
    }
    footer button,
    footer .button {
      flex: 1 1 auto;
      justify-content: center;
      white-space: normal;
    }
    footer .cancel {
      margin: 0;
    }
    .percent {
      font-size: 1.875rem;
    }
    .counts div {
      padding: 0.4375rem 0.625rem;
    }
  }
  @container (max-width: 22rem) {
    .head,
    .figures {
      flex-wrap: wrap;
    }
    .counts {
      grid-auto-flow: row;
    }
    .counts div {
      flex-direction: row;
      justify-content: space-between;
      align-items: baseline;
    }
    .amount,
    .rate,
    .eta,
    .badge {
      white-space: normal;
    }
    .badge {
      flex-shrink: 1;
    }
    .figures.main {
      min-height: 0;
    }
    .pager .button,
    .pager button {
      white-space: normal;
    }
    .link p,
    .link .warn {
      flex-basis: 4rem;
    }
    .now {
      flex-wrap: wrap;
      gap: 0 0.625rem;
    }
    .entries > div {
      grid-template-columns: minmax(0, 1fr);
    }
  }
  @media (prefers-reduced-motion: reduce) {
    *,
    ::before,
    ::-webkit-progress-value {
      animation: none !important;
      transition: none !important;
    }
    progress:indeterminate {
      background: repeating-linear-gradient(-45deg, var(--fill) 0 0.375rem, var(--sunk) 0.375rem 0.75rem);
    }
  }
  @media (forced-colors: active) {
    .card,
    .badge,
    .counts,
    progress {
      border: 1px solid CanvasText;
    }
    progress::-webkit-progress-value {
      background: Highlight;
      forced-color-adjust: none;
    }
    progress::-moz-progress-bar {
      background: Highlight;
    }
    progress:indeterminate {
      background: repeating-linear-gradient(-45deg, Highlight 0 0.375rem, Canvas 0.375rem 0.75rem);
      forced-color-adjust: none; /* else an empty box, which reads as 0 % */
    }
    .link p::before {
      border-color: CanvasText;
    }
  }
`;

/** @type {CSSStyleSheet | null} */
let sheet = null;

/** Return the sheet, which all elements of a page share. */
export function styleSheet() {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
  }
  return sheet;
}
