// Facts: what the page shows of a record in lists, sums and filters. Nothing in a record is trusted to have its right type.

import { Num } from "./json.js";
import { microseconds } from "./moments.js";

const NO_SECTION = new Map();
const LONGEST = 300; // characters of a text in a list

/** Return the section (or any object) of this name, empty where there is none. */
export function section(record, name) {
  const value = record.get(name);
  return value instanceof Map ? value : NO_SECTION;
}

/** Return a scalar as text, "" for null and for what is no scalar. */
export function text(value) {
  if (typeof value === "string") return value;
  return value instanceof Num || typeof value === "boolean" ? String(value) : "";
}

/** Return a whole number that is exact in JavaScript, else null. */
export function integer(value) {
  if (!(value instanceof Num) || !/^-?[0-9]+$/.test(value.text)) return null;
  return Number.isSafeInteger(Number(value)) ? Number(value) : null;
}

/** Return what a list shows of a record that is an object. */
export function factsOf(record) {
  const [trigger, context] = [section(record, "trigger"), section(record, "context")];
  const [execution, outcome] = [section(record, "execution"), section(record, "outcome")];
  const [authority, metrics] = [section(record, "authority"), section(outcome, "metrics")];
  const used = new Map([...section(execution, "resources_used"), ...metrics]);
  const kind = kindOf(record);
  return {
    kind,
    type: short(record.get("type")),
    domain: short(record.get("domain")),
    agent: short(context.get("agent_id")),
    name: nameOf(record, kind),
    words: short(trigger.get("request")) || short(outcome.get("summary")),
    model: short(section(record, "reasoning").get("model")),
    status: short(outcome.get("status")) || "unknown",
    authority: short(authority.get("type")) || "unknown",
    approver: short(authority.get("approver")),
    started: microseconds(text(trigger.get("timestamp"))),
    duration: durationOf(execution),
    tokensIn: integer(used.get("tokens_in")),
    tokensOut: integer(used.get("tokens_out")),
    cost: short(used.get("cost_usd") ?? used.get("cost")),
  };
}

/** An LLM call, a task, or what the recorder says about itself. */
function kindOf(record) {
  if (record.get("type") === "system") return "system";
  if (section(section(record, "outcome"), "metrics").has("children")) return "task";
  return toolOf(record).startsWith("litellm.") || record.get("type") === "chat" ? "call" : "task";
}

function nameOf(record, kind) {
  const source = short(section(record, "trigger").get("source"));
  if (kind !== "call" || (source && source !== "litellm")) return source || "(no name)";
  return toolOf(record).slice(0, LONGEST) || source || "(no name)";
}

function toolOf(record) {
  const calls = section(record, "execution").get("tool_calls");
  const first = Array.isArray(calls) ? calls[0] : undefined;
  return first instanceof Map ? text(first.get("tool")) : "";
}

function durationOf(execution) {
  const value = execution.get("duration_ms");
  const milliseconds = value instanceof Num ? Number(value) : NaN;
  return Number.isFinite(milliseconds) && milliseconds >= 0 ? milliseconds : null;
}

function short(value) {
  const whole = text(value);
  return whole.length > LONGEST ? `${whole.slice(0, LONGEST).toWellFormed()}…` : whole;
}

/** Return every text and number in a record, in lower case, for searching; keys are left out, which all records share. */
export function searchable(record) {
  const found = [];
  const waiting = [record];
  while (waiting.length > 0) {
    const value = waiting.pop();
    const inner = value instanceof Map ? [...value.values()] : value;
    if (Array.isArray(inner)) for (let index = inner.length - 1; index >= 0; index -= 1) waiting.push(inner[index]);
    else if (value !== null) found.push(String(value));
  }
  return found.join("\n").toLowerCase();
}
