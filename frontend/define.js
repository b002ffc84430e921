/*
 * Registers <job-progress>, unless it is registered already: it is safe to load this file, or a copy of it, twice.
 * It must not know what the element does. Pages load it as /static/define.js, so it must stay here.
 * See also: element/job-progress.js, which a page imports instead to extend the class.
 */
import { JobProgress } from "./element/job-progress.js";

if (!customElements.get("job-progress")) customElements.define("job-progress", JobProgress);

export { JobProgress };
