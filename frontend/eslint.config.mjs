/*
 * Configures eslint: its recommended rules, a few that find real bugs, the imports that each room may have, and
 * the purity of the pure files.
 * It must not repeat the checks of tsc (undefined names) or the work of prettier (format).
 * See also: scripts/check, which runs it; tests/house/arrows.mjs, which checks that the arrows hold.
 */
import { createRequire } from "node:module";

// scripts/check installs the tools here.
const js = createRequire(new URL("../.cache/js/", import.meta.url))("@eslint/js");

/** The arrows: the imports that a room may have in addition to its own files. */
const ROOMS = {
  client: [],
  view: [],
  element: ["client/", "view/"],
  page: ["client/", "view/", "element/", "define.js"],
};
const PURE = ["frontend/view/**/*.js", "frontend/client/watch*.js", "frontend/client/request-policy.js"];

/** Forbid every import that does not match one of these regular expressions at its start. */
const onlyImports = (...allowed) => ({
  "no-restricted-imports": [
    "error",
    {
      patterns: [
        { regex: `^(?!(?:${allowed.join("|")}))`, message: "frontend/eslint.config.mjs has no such arrow." },
      ],
    },
  ],
});

export default [
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "no-undef": "off", // tsc checks it
      "no-control-regex": "off", // `harmless` looks for control characters
      "array-callback-return": "error",
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-constructor-return": "error",
      "no-self-compare": "error",
      "no-template-curly-in-string": "error",
      "no-unreachable-loop": "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  },
  {
    files: ["frontend/**/*.js"],
    rules: {
      "no-console": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-restricted-syntax": [
        "error",
        { selector: "ImportExpression", message: "Modules are imported statically." },
      ],
    },
  },
  ...Object.entries(ROOMS).map(([room, others]) => ({
    files: [`frontend/${room}/**/*.js`],
    rules: onlyImports("\\./", ...others.map((other) => `\\.\\./${other}`)),
  })),
  { files: ["frontend/define.js"], rules: onlyImports("\\./element/") },
  {
    files: ["frontend/client/watch*.js"],
    rules: onlyImports("\\./(?:watch-(?:state|step)|request-policy)\\.js$"),
  },
  {
    // No browser globals are declared, so any use of the DOM, a timer or the network is an undefined name.
    files: PURE,
    rules: {
      "no-undef": "error",
      "no-restricted-properties": [
        "error",
        { object: "Date", property: "now", message: "Times come in as arguments." },
        { object: "Math", property: "random", message: "Random numbers come in as arguments." },
      ],
      "no-restricted-globals": ["error", "globalThis"],
    },
  },
];
