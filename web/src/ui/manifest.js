// The manifest: what the file says about itself. Nothing protects it, and any part may be missing or of the wrong kind.

import { microseconds, printed } from "../moments.js";
import { line } from "./dom.js";

/** Read the manifest, with every field in its right type. */
export function manifestOf(text) {
  let manifest = null;
  try {
    manifest = JSON.parse(text);
  } catch {
    // A report without a readable manifest still holds its records.
  }
  const given = isObject(manifest) ? manifest : {};
  const word = (name) => (typeof given[name] === "string" ? given[name] : "");
  return {
    source: word("source"),
    made_at: word("made_at"),
    made_by: word("made_by"),
    selection: claimOf(given.selection ?? null),
    keys: Array.isArray(given.keys) ? given.keys.filter(isObject) : [],
    checkpoints: Array.isArray(given.checkpoints) ? given.checkpoints.filter((note) => typeof note === "string") : [],
  };
}

/** What a file claims to be a selection of; null for a whole chain, which no claim at all must turn into. */
function claimOf(value) {
  if (!isObject(value)) return value === null ? null : { "": value };
  return Object.keys(value).length > 0 ? value : null;
}

/** Who made the file, when, and what it selects, in one sentence or two. */
export function provenance({ made_at, made_by, selection }) {
  const when = microseconds(made_at);
  const made = [made_by && `by ${line(made_by, 60)}`, when !== null && `on ${printed(when)}`].filter(Boolean).join(" ");
  const what = selection === null ? "A whole chain" : `A selection of a chain: ${criteria(selection)}`;
  return `${what}.${made ? ` Made ${made}.` : ""}`;
}

function criteria(selection) {
  const parts = Object.entries(selection).filter(([, value]) => ["string", "number"].includes(typeof value));
  return parts.map(([name, value]) => `${line(name, 20)} ${line(String(value), 60)}`).join(", ") || "not described";
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
