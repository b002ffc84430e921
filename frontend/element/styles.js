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
    --on-accent: var(--unstuck-on-accent, light-dark(#ffffff, #0f1a2e));
    --good: var(--unstuck-good, light-dark(#16693a, #6fd09a));
    --warn: var(--unstuck-warn, light-dark(#855000, #f0bd62));
    --bad: var(--unstuck-bad, light-dark(#b02a20, #ff9c92));
    --good-wash: light-dark(#e5f4ea, #1a3527);
    --warn-wash: light-dark(#fdf1dc, #3a2e17);
    --bad-wash: light-dark(#fcebe9, #402422);
    --busy-wash: light-dark(#e8effc, #21304b);
    display: block;
    color: var(--ink);
    font: 1rem/1.5 var(--unstuck-font, system-ui, sans-serif);
    font-variant-numeric: tabular-nums;
    text-align: start;
  }
  :host([modal]) {
    display: contents;
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
    margin: auto;
    background: none;
    color: inherit;
    width: min(36rem, calc(100vw - 1.5rem));
    max-width: none;
    max-height: calc(100dvh - 1.5rem);
    overflow: visible;
  }
  dialog::backdrop {
    background: rgb(10 16 26 / 0.5);
    backdrop-filter: blur(2px);
  }
  .card {
    background: var(--paper);
    border: 1px solid var(--line);
    border-radius: 0.875rem;
    display: flex;
    flex-direction: column;
    max-height: inherit;
    overflow: hidden;
  }
  dialog .card {
    box-shadow: 0 1.25rem 3.5rem rgb(10 16 26 / 0.28);
  }
  .body {
    padding: 1.125rem 1.5rem 1.25rem;
    display: grid;
    grid-template-columns: minmax(0, 1fr);
    grid-auto-rows: max-content;
    gap: 1.125rem;
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
  }
  .kind {
    color: var(--muted);
    font-size: 0.875rem;
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
    color: var(--accent);
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
    gap: 1rem;
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
    height: 0.625rem;
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
    grid-template-columns: repeat(auto-fit, minmax(5.5rem, 1fr));
    border: 1px solid var(--line);
    border-radius: 0.625rem;
    overflow: hidden;
    background: var(--line);
    gap: 1px;
  }
  .counts div {
    background: var(--paper);
    padding: 0.5rem 0.875rem 0.5625rem;
    display: flex;
    flex-direction: column-reverse;
  }
  dt {
    font-size: 0.8125rem;
    color: var(--muted);
  }
  dd {
    font-size: 1.125rem;
    font-weight: 600;
    line-height: 1.35;
  }
  dd.bad {
    color: var(--bad);
  }
  .work {
    display: grid;
    gap: 0.125rem;
    min-height: 1.375rem;
    font-size: 0.9375rem;
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
    overflow-wrap: anywhere;
  }
  .kept {
    color: var(--muted);
    font-size: 0.875rem;
  }
  .note,
  .answer {
    padding: 0.625rem 0.875rem;
    border-radius: 0.625rem;
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

  details {
    border: 1px solid var(--line);
    border-radius: 0.625rem;
    overflow: clip; /* else Firefox draws a scroll bar over the corner */
  }
  summary {
    padding: 0.5625rem 0.875rem;
    font-weight: 600;
    font-size: 0.9375rem;
    cursor: pointer;
    border-radius: 0.625rem;
  }
  .problems summary {
    color: var(--bad);
  }
  .list {
    max-height: 13.5rem;
    overflow: auto;
    border-top: 1px solid var(--line);
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
  .list .message {
    grid-column: 1 / -1;
    color: var(--muted);
  }
  .list a {
    align-self: center;
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
  a {
    color: var(--accent);
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
  }
  @media (max-width: 30rem) {
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
    .counts {
      grid-template-columns: repeat(auto-fit, minmax(4.25rem, 1fr));
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
