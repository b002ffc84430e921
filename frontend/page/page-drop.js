/*
 * Takes files that are dropped anywhere on the page, and shows a hint while they are dragged over it. Other things,
 * such as text for a field, are left to the browser.
 * It must not know what becomes of the files.
 * See also: new-job.js, which adds them; file-picker.js, which reads them.
 */
import { setText } from "../element/dom.js";

/**
 * Take every drop of files.
 * @param {{hint: HTMLElement, text: () => string, onDrop: (transfer: DataTransfer) => void}} options `hint` is a
 *   manual popover, so that it is seen above an open dialog too, and shows `text()`
 */
export function takeDrops({ hint, text, onDrop }) {
  const show = (/** @type {boolean} */ on) => {
    if (on) setText(hint, text());
    hint.togglePopover(on);
  };
  /** @param {string} type @param {(event: DragEvent) => void} handle */
  const on = (type, handle) =>
    window.addEventListener(type, (event) => {
      if (!(event instanceof DragEvent) || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault(); // otherwise the browser opens the file in place of the page
      handle(event);
    });
  on("dragenter", () => show(true));
  on("dragover", () => show(true)); // again, for browsers that report every step as leaving the window
  on("dragleave", (event) => event.relatedTarget === null && show(false));
  on("drop", (event) => {
    show(false);
    if (event.dataTransfer) onDrop(event.dataTransfer);
  });
}
