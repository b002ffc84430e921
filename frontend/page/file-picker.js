/*
 * Lists the files that were chosen or dropped, folders included, and checks them against the server's limits
 * before anything is sent. It must not draw or send. The walk through a folder stops once it has found more files
 * than allowed.
 * Next: new-job.js, which shows the problems; upload.js, which sends the files.
 */
import { byteSize, harmless, say } from "../view/format.js";
import { english } from "../view/locale/en.js";

/** @import { Kind, Limits, Words } from "../wire" */
/** @import { ChosenFile } from "./upload.js" */

const NAMED = 3; // examples named per problem; the others are counted
const NAME_SHOWN = 60;

const SLICE_MS = 8; // half a frame

/** @typedef {{file: File, name: string}} FoundFile */

/**
 * Read the sizes of the files, a slice at a time: each is a call to the browser's main process, and reading 10,000
 * at once blocked the page for over a second.
 * @param {FoundFile[]} found
 * @returns {Promise<ChosenFile[]>}
 */
export async function withSizes(found) {
  /** @type {ChosenFile[]} */
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

/** @param {Iterable<File>} files @returns {FoundFile[]} */
export function fromInput(files) {
  return [...files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
}

/**
 * The dropped files, with their paths inside dropped folders. Call it during the drop event: the entries are gone
 * afterwards.
 * @param {DataTransfer} transfer
 * @param {number} most
 * @returns {Promise<{files: FoundFile[], unreadable: {name: string, reason: string}[]}>}
 */
export function fromDrop(transfer, most) {
  const entries = [...transfer.items]
    .map((item) => item.webkitGetAsEntry?.() ?? null)
    .filter((entry) => entry !== null);
  if (entries.length === 0) return Promise.resolve({ files: fromInput(transfer.files), unreadable: [] });
  return walk(entries, most);
}

/** @param {FileSystemEntry[]} entries @param {number} most */
async function walk(entries, most) {
  /** @type {FoundFile[]} */
  const files = [];
  /** @type {{name: string, reason: string}[]} */
  const unreadable = [];
  const waiting = [...entries];
  for (let entry = waiting.shift(); entry && files.length <= most; entry = waiting.shift()) {
    try {
      if (entry.isDirectory)
        waiting.push(...(await children(/** @type {FileSystemDirectoryEntry} */ (entry), most)));
      else
        files.push({
          file: await fileOf(/** @type {FileSystemFileEntry} */ (entry)),
          name: entry.fullPath.replace(/^\//, ""),
        });
    } catch (error) {
      unreadable.push({
        name: entry.fullPath,
        reason: error instanceof Error || error instanceof DOMException ? error.message : String(error),
      });
    }
  }
  return { files, unreadable };
}

/** Read a folder's entries; browsers give them in portions of 100, and an empty portion is the end.
 * @param {FileSystemDirectoryEntry} folder @param {number} most */
async function children(folder, most) {
  const reader = folder.createReader();
  /** @type {FileSystemEntry[]} */
  const found = [];
  for (;;) {
    const portion = await new Promise((/** @type {(entries: FileSystemEntry[]) => void} */ resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    found.push(...portion);
    if (portion.length === 0 || found.length > most) return found;
  }
}

/** @param {FileSystemFileEntry} entry @returns {Promise<File>} */
function fileOf(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

/** Check the files: problems prevent sending, warnings do not.
 * @param {ChosenFile[]} chosen @param {Kind} kind @param {Limits} limits @param {Words} [words]
 * @returns {{bytes: number, problems: string[], warnings: string[]}} */
export function checkFiles(chosen, kind, limits, words = english) {
  const bytes = chosen.reduce((sum, file) => sum + file.size, 0);
  const size = (/** @type {number} */ count) => byteSize(count, words);
  const problems = [];
  if (chosen.length > limits.max_files)
    problems.push(say(words, "too_many_files", { count: chosen.length, max: limits.max_files }));
  problems.push(
    ...named(
      chosen.filter((file) => file.size > limits.max_file_bytes),
      words,
      ({ name, size: bytes }) =>
        say(words, "file_too_large", {
          name: harmless(name, NAME_SHOWN),
          size: size(bytes),
          max: size(limits.max_file_bytes),
        }),
    ),
  );
  problems.push(
    ...named(
      chosen.filter(({ name }) => name.length > limits.max_name_length),
      words,
      ({ name }) =>
        say(words, "name_too_long", {
          name: harmless(name, NAME_SHOWN),
          count: name.length,
          max: limits.max_name_length,
        }),
    ),
  );
  if (bytes > limits.max_job_bytes)
    problems.push(say(words, "job_too_large", { size: size(bytes), max: size(limits.max_job_bytes) }));
  const odd = chosen.filter(({ file }) => !accepts(kind.accept, file)).length;
  return {
    bytes,
    problems,
    warnings:
      odd > 0
        ? [say(words, "not_accepted", { count: odd, accept: (kind.accept ?? "").replaceAll(",", ", ") })]
        : [],
  };
}

/** @param {ChosenFile[]} wrong @param {Words} words @param {(one: ChosenFile) => string} tell */
function named(wrong, words, tell) {
  const lines = wrong.slice(0, NAMED).map(tell);
  return wrong.length > NAMED ? [...lines, say(words, "and_others", { count: wrong.length - NAMED })] : lines;
}

/** Apply the rule of <input accept>: extensions, types, or families of types. A file of unknown type passes.
 * @param {string | null} accept @param {{name: string, type: string}} file */
export function accepts(accept, file) {
  const rules = (accept ?? "")
    .split(",")
    .map((rule) => rule.trim().toLowerCase())
    .filter(Boolean);
  if (rules.length === 0 || rules.includes("*") || rules.includes("*/*")) return true;
  const [name, type] = [file.name.toLowerCase(), file.type.toLowerCase()];
  return rules.some((rule) => {
    if (rule.startsWith(".")) return name.endsWith(rule);
    if (type === "") return !rules.some((other) => other.startsWith("."));
    return rule.endsWith("/*") ? type.startsWith(rule.slice(0, -1)) : type === rule;
  });
}
