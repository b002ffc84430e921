/*
 * Decides which jobs a filtered list shows, and how the filter stands in the address and in requests: `state` and
 * `name`, as in GET /api/jobs.
 * It must not know how the list is loaded, nor the DOM. Pure.
 * See also: job-list.js, which filters; filter-form.js, which people fill in.
 */

/** @import { Job } from "../wire" */
/** @typedef {{states: readonly string[], name: string}} Filter no states: any; no name: any */

/** What people choose among, and the states of each. @type {Record<string, readonly string[]>} */
export const GROUPS = {
  all: [],
  unfinished: ["queued", "running"],
  done: ["completed"],
  failures: ["completed_with_errors", "failed"],
  cancelled: ["cancelled"],
};

const KNOWN = Object.values(GROUPS).flat();
const NAME_LENGTH = 200;

/** @type {Filter} */
export const EVERYTHING = { states: [], name: "" };

/** @param {Filter} filter */
export function isFiltered({ states, name }) {
  return states.length > 0 || name !== "";
}

/** Return whether the list shows the job. @param {Filter} filter @param {Job} job */
export function isShown({ states, name }, job) {
  return (states.length === 0 || states.includes(job.state)) && folded(job.name ?? "").includes(folded(name));
}

/** Return the text for a comparison that ignores case. Upper case, since it has one form of ß, ς and ligatures.
 * @param {string} text */
function folded(text) {
  return text.normalize("NFC").toUpperCase();
}

/** Return the group of these states, or "" if they are none of the groups. @param {Filter} filter */
export function groupOf({ states }) {
  const sorted = [...states].sort().join();
  return Object.keys(GROUPS).find((group) => [...(GROUPS[group] ?? [])].sort().join() === sorted) ?? "";
}

/** Return the filter as parameters of a query; what filters nothing has none. @param {Filter} filter */
export function parameters({ states, name }) {
  return { ...(states.length > 0 ? { state: states.join() } : {}), ...(name ? { name } : {}) };
}

/** Return the filter in the query of an address; unknown states are left out. @param {string} search
 * @returns {Filter} */
export function filterIn(search) {
  const query = new URLSearchParams(search);
  const states = query.getAll("state").flatMap((text) => text.split(","));
  return {
    states: KNOWN.filter((state) => states.includes(state)),
    name: (query.get("name") ?? "").trim().slice(0, NAME_LENGTH),
  };
}

/** Return the query of an address with this filter in it, and all else kept. @param {string} search
 * @param {Filter} filter */
export function withFilter(search, filter) {
  const query = new URLSearchParams(search);
  for (const name of ["state", "name"]) query.delete(name);
  for (const [name, value] of Object.entries(parameters(filter))) query.set(name, value);
  return query.size > 0 ? `?${query}` : "";
}
