/*
 * Checks that frontend/eslint.config.mjs refuses the imports and impurities that it forbids, and no others.
 * scripts/check, which installs eslint, runs it and expects exit code 0.
 * Next: frontend/eslint.config.mjs.
 */
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const root = new URL("../../", import.meta.url);
const { ESLint } = createRequire(new URL(".cache/js/", root))("eslint");
const eslint = new ESLint({
  cwd: decodeURIComponent(root.pathname),
  overrideConfigFile: "frontend/eslint.config.mjs",
});

/** Returns the rules that a file with this path and text breaks. */
async function broken(filePath, text) {
  const [result] = await eslint.lintText(text, { filePath });
  return result.messages.map(({ ruleId }) => ruleId);
}

/** For each importing file: what it may import, and what it may not. */
const ARROWS = {
  "frontend/define.js": [["./element/job-progress.js"], ["./page/batch.js", "./client/follower.js"]],
  "frontend/page/batch.js": [
    ["./new-job.js", "../define.js", "../element/dom.js", "../view/job-view.js", "../client/follower.js"],
    ["lit", "https://host/x.js", "/static/define.js"],
  ],
  "frontend/element/dom.js": [
    ["./redraw.js", "../view/job-view.js", "../client/follower.js"],
    ["../page/batch.js", "../define.js"],
  ],
  "frontend/view/health.js": [
    ["./format.js", "./locale/en.js"],
    ["../client/follower.js", "../element/dom.js", "../page/batch.js", "../define.js"],
  ],
  "frontend/client/follower.js": [
    ["./watchdog.js"],
    ["../view/health.js", "../element/dom.js", "../page/batch.js"],
  ],
  "frontend/client/watchdog.js": [
    ["./watch-state.js", "./watch-step.js", "./request-policy.js"],
    ["./follower.js", "./requests.js", "../view/health.js"],
  ],
};

for (const [file, [allowed, forbidden]] of Object.entries(ARROWS)) {
  for (const target of allowed)
    assert.deepEqual(await broken(file, `import "${target}";\n`), [], `${file}: ${target}`);
  for (const target of forbidden)
    assert.deepEqual(await broken(file, `import "${target}";\n`), ["no-restricted-imports"], `${file}: ${target}`);
  assert.deepEqual(await broken(file, 'await import("./x.js");\n'), ["no-restricted-syntax"], file);
}

const IMPURE = {
  "no-undef": ["document.title", "setTimeout(String)", 'fetch("/")', "performance.now()"],
  "no-restricted-properties": ["Date.now()", "Math.random()"],
  "no-restricted-globals": ["globalThis"],
};
for (const file of [
  "frontend/view/health.js",
  "frontend/client/watchdog.js",
  "frontend/client/watch-step.js",
  "frontend/client/watch-state.js",
  "frontend/client/request-policy.js",
])
  for (const [rule, texts] of Object.entries(IMPURE))
    for (const text of texts)
      assert.deepEqual(await broken(file, `export const x = ${text};\n`), [rule], `${file}: ${text}`);
