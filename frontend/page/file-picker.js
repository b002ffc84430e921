/*
 * Lists the files that were chosen or dropped, including those in folders, in the order in which people count, and
 * checks them against the server's limits before anything is sent.
 * It must not draw or send.
 * See also: new-job.js, which shows the problems; upload.js, which sends the files.
 */
import { byteSize, harmless, say } from "../view/format.js";
import { english } from "../view/locale/en.js";

/** @import { Kind, Limits, Words } from "../wire" */
/** @import { ChosenFile } from "./upload.js" */

const NAMED = 3; // examples named per problem; the others are counted
const NAME_LENGTH = 60;
const SLICE_MS = 8; // half a frame
const COMPARED_BYTES = 64 * 1024; // at each end of two files that look the same
const TYPES_NAMED = 4;
// What systems and programs leave in folders: no person means to work on them.
const SYSTEM_FILE = /(^|\/)(\.DS_Store|Thumbs\.db|ehthumbs\.db|desktop\.ini|\._[^/]*|~\$[^/]*|__MACOSX\/.*)$/i;

/** @typedef {{file: File, name: string}} FoundFile */

/**
 * Read the sizes of the files, a slice at a time.
 *
 * Each size is a call to the browser's main process, and 10,000 at once blocked the page for over a second.
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

/** Return whether an operating system or a program has put this file into the folder. @param {string} name */
export function isSystemFile(name) {
  return SYSTEM_FILE.test(name);
}

/**
 * Add files to those chosen before, in natural order (2 before 10).
 *
 * The same file chosen again stays one. Another file of the same name, from another folder, gets a number: "a (2).csv".
 * @param {ChosenFile[]} chosen
 * @param {ChosenFile[]} added
 * @returns {Promise<ChosenFile[]>}
 */
export async function withAdded(chosen, added) {
  const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const byName = new Map(chosen.map((one) => [one.name, one]));
  for (const one of [...added].sort((a, b) => order.compare(a.name, b.name))) {
    let name = one.name;
    for (let number = 2; ; number++) {
      const before = byName.get(name);
      if (!before || (await same(before, one))) break;
      name = numbered(one.name, number);
    }
    byName.set(name, { ...one, name });
  }
  return [...byName.values()].sort((a, b) => order.compare(a.name, b.name));
}

/** Return whether both are the same file, as far as its times, its size and its two ends tell.
 * @param {ChosenFile} a @param {ChosenFile} b */
async function same(a, b) {
  if (a.size !== b.size || a.file.lastModified !== b.file.lastModified) return false;
  try {
    const [one, other] = [await ends(a), await ends(b)];
    return one.every((byte, place) => byte === other[place]);
  } catch {
    return false; // one cannot be read any more: the upload tells
  }
}

/** Read both ends of a file. @param {ChosenFile} chosen */
async function ends({ file, size }) {
  const tail = file.slice(Math.max(COMPARED_BYTES, size - COMPARED_BYTES));
  return new Uint8Array(await new Blob([file.slice(0, COMPARED_BYTES), tail]).arrayBuffer());
}

/** Return "folder/a (2).csv" for "folder/a.csv". @param {string} name @param {number} number */
function numbered(name, number) {
  const [, stem, suffix] = /^(.*?[^/])((?:\.[^./]*)?)$/s.exec(name) ?? [name, name, ""];
  return `${stem} (${number})${suffix}`;
}

/** Return the files of a file input. @param {Iterable<File>} files @returns {FoundFile[]} */
export function fromInput(files) {
  return [...files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
}

/**
 * Find the dropped files, with their paths inside dropped folders.
 *
 * Call this during the drop event: afterwards the entries are gone. The walk stops at more than `limit` files.
 * @param {DataTransfer} transfer
 * @param {number} limit
 * @returns {Promise<{files: FoundFile[], unreadable: {name: string, reason: string}[]}>}
 */
export function fromDrop(transfer, limit) {
  const entries = [...transfer.items]
    .map((item) => item.webkitGetAsEntry?.() ?? null)
    .filter((entry) => entry !== null);
  if (entries.length === 0) return Promise.resolve({ files: fromInput(transfer.files), unreadable: [] });
  return walk(entries, limit);
}

/** @param {FileSystemEntry[]} entries @param {number} limit */
async function walk(entries, limit) {
  /** @type {FoundFile[]} */
  const files = [];
  /** @type {{name: string, reason: string}[]} */
  const unreadable = [];
  const waiting = [...entries];
  for (let entry = waiting.shift(); entry && files.length <= limit; entry = waiting.shift()) {
    try {
      if (entry.isDirectory)
        waiting.push(...(await children(/** @type {FileSystemDirectoryEntry} */ (entry), limit)));
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

/** Read a folder's entries. Browsers return up to 100 per call; an empty answer is the end.
 * @param {FileSystemDirectoryEntry} folder @param {number} limit */
async function children(folder, limit) {
  const reader = folder.createReader();
  /** @type {FileSystemEntry[]} */
  const found = [];
  for (;;) {
    const portion = await new Promise((/** @type {(entries: FileSystemEntry[]) => void} */ resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    found.push(...portion);
    if (portion.length === 0 || found.length > limit) return found;
  }
}

/** @param {FileSystemFileEntry} entry @returns {Promise<File>} */
function fileOf(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

/** Check the files. Problems prevent sending, warnings do not.
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
          name: harmless(name, NAME_LENGTH),
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
          name: harmless(name, NAME_LENGTH),
          count: name.length,
          max: limits.max_name_length,
        }),
    ),
  );
  if (bytes > limits.max_job_bytes)
    problems.push(say(words, "job_too_large", { size: size(bytes), max: size(limits.max_job_bytes) }));
  const doubtful = chosen.filter(({ file }) => !accepts(kind.accept, file)).length;
  return {
    bytes,
    problems,
    warnings: doubtful > 0 ? [notAccepted(doubtful, kind.accept, words)] : [],
  };
}

/** Describe the first files that are wrong, and count the others.
 * @param {ChosenFile[]} wrong @param {Words} words @param {(file: ChosenFile) => string} describe */
function named(wrong, words, describe) {
  const lines = wrong.slice(0, NAMED).map(describe);
  return wrong.length > NAMED ? [...lines, say(words, "and_others", { count: wrong.length - NAMED })] : lines;
}

/** Return the rules of <input accept>: extensions, types, or families of types. @param {string | null} accept */
function acceptRules(accept) {
  return (accept ?? "")
    .split(",")
    .map((rule) => rule.trim().toLowerCase())
    .filter(Boolean);
}

/** Name the accepted types for people: ".csv, .tsv", or "PNG, WEBP" if no extensions are given.
 * @param {string | null} accept */
export function typeNames(accept) {
  const rules = acceptRules(accept);
  const extensions = rules.filter((rule) => rule.startsWith("."));
  const types = rules.filter((rule) => !rule.endsWith("/*")).map(typeName);
  const names = [...new Set(extensions.length > 0 ? extensions : types)];
  return names.length > TYPES_NAMED ? `${names.slice(0, TYPES_NAMED).join(", ")}, …` : names.join(", ");
}

/** Return "PDF" for application/pdf, "SVG" for image/svg+xml, "EXCEL" for application/vnd.ms-excel. @param {string} type */
function typeName(type) {
  const name = type.replace(/^.*\//, "").replace(/\+.*$/, "");
  return (name.split(/[.-]/).pop() ?? name).toUpperCase();
}

/** Say that files may be of the wrong type, in people's words: "not pictures (JPEG, PNG)".
 * @param {number} count @param {string | null} accept @param {Words} words */
function notAccepted(count, accept, words) {
  const families = new Set(
    acceptRules(accept).map((rule) => (rule.startsWith(".") ? "" : rule.replace(/\/.*$/, ""))),
  );
  const [family = ""] = families.size === 1 ? families : [];
  const known = words[`type_${family}`] ?? english[`type_${family}`];
  const names = typeNames(accept);
  return say(words, "not_accepted", {
    count,
    what: say(words, known ? `type_${family}` : "type_other", { count }),
    types: names ? say(words, "type_names", { types: names }) : "",
  });
}

/** Return whether a file passes <input accept>. A file of unknown type passes.
 * @param {string | null} accept @param {{name: string, type: string}} file */
export function accepts(accept, file) {
  const rules = acceptRules(accept);
  if (rules.length === 0 || rules.includes("*") || rules.includes("*/*")) return true;
  const [name, type] = [file.name.toLowerCase(), file.type.toLowerCase()];
  return rules.some((rule) => {
    if (rule.startsWith(".")) return name.endsWith(rule);
    if (type === "") return !rules.some((other) => other.startsWith("."));
    return rule.endsWith("/*") ? type.startsWith(rule.slice(0, -1)) : type === rule;
  });
}
