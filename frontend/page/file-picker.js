/*
 * Finds out which files were chosen or dropped, folders included, and whether the server will take them.
 * It decides what is a problem before anything is sent; it draws nothing and sends nothing. Limits come
 * from the server; the walk through a folder stops as soon as there are more files than it takes.
 */
import { byteSize, harmless, say } from "../view/format.js";
import { english } from "../view/locale/en.js";

/** @import { Kind, Limits, Words } from "../wire" */
/** @import { Chosen } from "./upload.js" */

const NAMED = 3; // so many examples of one problem are named, the rest counted
const NAME_SHOWN = 60;

const SLICE_MS = 8; // half a frame

/** @typedef {{file: File, name: string}} Found */

/** With their sizes. Each is a question to the browser's own process: asked of 10,000 files in one go, the page
 * stood still for a second and more, so it is done a slice at a time.
 * @param {Found[]} found @returns {Promise<Chosen[]>} */
export async function measured(found) {
  /** @type {Chosen[]} */
  const files = [];
  let until = performance.now() + SLICE_MS;
  for (const { file, name } of found) {
    files.push({ file, name, size: file.size });
    if (performance.now() < until) continue;
    await new Promise((resolve) => setTimeout(resolve));
    until = performance.now() + SLICE_MS;
  }
  return files;
}

/** @param {Iterable<File>} files @returns {Found[]} */
export function fromInput(files) {
  return [...files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
}

/** What was dropped, with the paths inside dropped folders. Must be called while the drop event lasts:
 * the entries are gone afterwards.
 * @param {DataTransfer} transfer @param {number} most @returns {Promise<{files: Found[], unreadable: {name: string, reason: string}[]}>} */
export function fromDrop(transfer, most) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null).filter((entry) => entry !== null);
  if (entries.length === 0) return Promise.resolve({ files: fromInput(transfer.files), unreadable: [] });
  return walk(entries, most);
}

/** @param {FileSystemEntry[]} entries @param {number} most */
async function walk(entries, most) {
  /** @type {Found[]} */
  const files = [];
  /** @type {{name: string, reason: string}[]} */
  const unreadable = [];
  const waiting = [...entries];
  for (let entry = waiting.shift(); entry && files.length <= most; entry = waiting.shift()) {
    try {
      if (entry.isDirectory) waiting.push(...(await children(/** @type {FileSystemDirectoryEntry} */ (entry), most)));
      else files.push({ file: await fileOf(/** @type {FileSystemFileEntry} */ (entry)), name: entry.fullPath.replace(/^\//, "") });
    } catch (error) {
      unreadable.push({ name: entry.fullPath, reason: error instanceof Error || error instanceof DOMException ? error.message : String(error) });
    }
  }
  return { files, unreadable };
}

/** A folder is read in portions of 100; an empty portion is its end.
 * @param {FileSystemDirectoryEntry} folder @param {number} most */
async function children(folder, most) {
  const reader = folder.createReader();
  /** @type {FileSystemEntry[]} */
  const found = [];
  for (;;) {
    const portion = await new Promise((/** @type {(entries: FileSystemEntry[]) => void} */ resolve, reject) => reader.readEntries(resolve, reject));
    found.push(...portion);
    if (portion.length === 0 || found.length > most) return found;
  }
}

/** @param {FileSystemFileEntry} entry @returns {Promise<File>} */
function fileOf(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

/** What stands against sending these files (problems), and what a person should know (warnings).
 * @param {Chosen[]} chosen @param {Kind} kind @param {Limits} limits @param {Words} [words]
 * @returns {{bytes: number, problems: string[], warnings: string[]}} */
export function judge(chosen, kind, limits, words = english) {
  const bytes = chosen.reduce((sum, file) => sum + file.size, 0);
  const size = (/** @type {number} */ count) => byteSize(count, words);
  const problems = [];
  if (chosen.length > limits.max_files) problems.push(say(words, "too_many_files", { count: chosen.length, max: limits.max_files }));
  problems.push(...named(chosen.filter((file) => file.size > limits.max_file_bytes), words, ({ name, size: bytes }) =>
    say(words, "file_too_large", { name: harmless(name, NAME_SHOWN), size: size(bytes), max: size(limits.max_file_bytes) })));
  problems.push(...named(chosen.filter(({ name }) => name.length > limits.max_name_length), words, ({ name }) =>
    say(words, "name_too_long", { name: harmless(name, NAME_SHOWN), count: name.length, max: limits.max_name_length })));
  if (bytes > limits.max_job_bytes) problems.push(say(words, "job_too_large", { size: size(bytes), max: size(limits.max_job_bytes) }));
  const odd = chosen.filter(({ file }) => !accepts(kind.accept, file)).length;
  return { bytes, problems, warnings: odd > 0 ? [say(words, "not_accepted", { count: odd, accept: (kind.accept ?? "").replaceAll(",", ", ") })] : [] };
}

/** @param {Chosen[]} wrong @param {Words} words @param {(one: Chosen) => string} tell */
function named(wrong, words, tell) {
  const lines = wrong.slice(0, NAMED).map(tell);
  return wrong.length > NAMED ? [...lines, say(words, "and_others", { count: wrong.length - NAMED })] : lines;
}

/** The rule of <input accept>: extensions, types, or whole families of types. A file of unknown type passes.
 * @param {string | null} accept @param {{name: string, type: string}} file */
export function accepts(accept, file) {
  const rules = (accept ?? "").split(",").map((rule) => rule.trim().toLowerCase()).filter(Boolean);
  if (rules.length === 0 || rules.includes("*") || rules.includes("*/*")) return true;
  const [name, type] = [file.name.toLowerCase(), file.type.toLowerCase()];
  return rules.some((rule) => {
    if (rule.startsWith(".")) return name.endsWith(rule);
    if (type === "") return !rules.some((other) => other.startsWith("."));
    return rule.endsWith("/*") ? type.startsWith(rule.slice(0, -1)) : type === rule;
  });
}
