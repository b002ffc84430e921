/*
 * Registers <job-progress>. Apart from the class, so that a page can import the class, extend it and
 * register its own. Loading this file twice, or beside another copy of it, does no harm.
 */
import { JobProgress } from "./element/job-progress.js";

if (!customElements.get("job-progress")) customElements.define("job-progress", JobProgress);

export { JobProgress };
