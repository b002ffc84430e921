/*
 * Registers <job-progress>, unless it is registered already: loading this file twice, or a second copy of it, is
 * safe. It must not know what the element does; a page that extends the class imports element/job-progress.js
 * instead.
 * Next: element/job-progress.js. The address /static/define.js is in people's pages, so this file stays here.
 */
import { JobProgress } from "./element/job-progress.js";

if (!customElements.get("job-progress")) customElements.define("job-progress", JobProgress);

export { JobProgress };
