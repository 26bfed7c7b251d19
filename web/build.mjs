// Build the report's page: one file that holds its style and its script, and allows nothing else to run or load.
//
//   npm ci && npm run build             write capsule_sdk/evidence/formats/report/page.html
//   node build.mjs OTHER/page.html      write it elsewhere
//
// The same sources and the same versions give the same bytes. The script is not minified, so that it can be read.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const ASSET = join(HERE, "..", "capsule_sdk", "evidence", "formats", "report", "page.html");
const LIBRARIES = ["@noble/curves", "@noble/hashes"];

const read = (...path) => readFileSync(join(HERE, ...path), "utf8");
const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

function licences() {
  const parts = LIBRARIES.map((name) => {
    const { version } = JSON.parse(read("node_modules", name, "package.json"));
    return `${name} ${version}\n\n${read("node_modules", name, "LICENSE").trim()}`;
  });
  return `/*!\nThe page is part of capsuled (Apache-2.0). Its script holds these libraries:\n\n${parts.join("\n\n")}\n*/`;
}

async function script() {
  const result = await build({
    absWorkingDir: HERE,
    entryPoints: ["src/main.js"],
    bundle: true,
    write: false,
    format: "iife",
    target: "es2023",
    charset: "utf8",
    legalComments: "none",
    banner: { js: licences() },
  });
  return `\n${result.outputFiles[0].text}`;
}

const code = await script();
const style = `\n${read("src", "style.css")}`;
const policy = [
  "default-src 'none'",
  `script-src ${hash(code)}`,
  `style-src ${hash(style)}`,
  "img-src data:",
  "worker-src blob:",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");
const parts = { policy, style, script: code };
// A function, because "$&" in a replacement text would mean something.
const page = read("src", "page.html").replace(/\{\{(\w+)\}\}/g, (_, name) => parts[name]);
writeFileSync(process.argv[2] ?? ASSET, page);
