// Facts: what the page shows of a record in lists, sums and filters. Nothing in a record is trusted to have its right type.

import { decimal } from "./decimals.js";
import { Num } from "./json.js";
import { microseconds } from "./moments.js";

const NO_SECTION = new Map();
const LONGEST = 300; // characters of a text in a list

/** Return the section (or any object) of this name, empty where there is none. */
export function section(record, name) {
  const value = record.get(name);
  return value instanceof Map ? value : NO_SECTION;
}

/** Return a whole number that is exact in JavaScript, else null. */
export function integer(value) {
  const found = count(value);
  return found !== null && found <= Number.MAX_SAFE_INTEGER ? Number(found) : null;
}

// What follows is `capsule_sdk/evidence/showing/summary.py` a second time: command and page show the same figures.

const MOST = 2n ** 63n; // what databases count to; larger numbers are not figures but attacks

/** Return a whole number that a figure may be, as a BigInt, else null. */
export function count(value) {
  return isWhole(value) && figure(value) !== null ? BigInt(value.text) : null;
}

function figure(value) {
  return value instanceof Num && Number(value) >= 0 && isBounded(value) ? Number(value) : null;
}

const isWhole = (value) => value instanceof Num && /^-?[0-9]+$/.test(value.text);

/** Whether a number is small enough for a database; NaN is neither small nor large. */
function isBounded(value) {
  const found = isWhole(value) ? BigInt(value.text) : Number(value);
  return found < MOST && found > -MOST;
}

/** Return a text, or a number as one; "" for whatever else there is. Halves of characters are replaced. */
export function text(value) {
  if (typeof value === "string") return value.replace(/\p{Surrogate}/gu, "?");
  return value instanceof Num && isBounded(value) ? value.text : "";
}

/** Return what a list shows of a record that is an object. */
export function factsOf(record) {
  const [trigger, context] = [section(record, "trigger"), section(record, "context")];
  const [execution, outcome] = [section(record, "execution"), section(record, "outcome")];
  const [authority, metrics] = [section(record, "authority"), section(outcome, "metrics")];
  const used = [metrics, section(execution, "resources_used")];
  const { name, isCall } = called(record);
  const type = text(record.get("type"));
  return {
    kind: isCall && asksModel(context) ? "call" : isRequest(name, metrics) ? "request" : type === "system" ? "system" : "task",
    type: short(type),
    domain: short(text(record.get("domain"))),
    agent: short(text(context.get("agent_id"))),
    name: short(name) || "(no name)",
    words: short(text(trigger.get("request"))) || short(text(outcome.get("summary"))),
    model: short(text(section(record, "reasoning").get("model"))),
    status: short(text(outcome.get("status"))) || "unknown",
    authority: short(text(authority.get("type"))) || "unknown",
    approver: short(text(authority.get("approver"))),
    started: microseconds(trigger.get("timestamp")),
    duration: figure(execution.get("duration_ms")),
    tokensIn: count(either(used, "tokens_in")),
    tokensOut: count(either(used, "tokens_out")),
    cost: amount(either(used, "cost_usd", "cost")),
  };
}

/** What was called, and whether that is a model. A task counts its children, whatever it is called; a call has none. */
function called(record) {
  const source = text(section(record, "trigger").get("source"));
  const children = section(section(record, "outcome"), "metrics").get("children");
  if (children instanceof Map) return { name: source, isCall: false };
  const tool = toolOf(record);
  const isOurs = source === "litellm" || (source === "" && tool.startsWith("litellm."));
  if (isOurs) return { name: tool || source, isCall: true };
  return { name: source, isCall: text(section(record, "reasoning").get("model")) !== "" };
}

/** Whether a model was asked, and not only something read, kept or removed at its provider. */
function asksModel(context) {
  return section(context, "environment").get("asks_model") !== false;
}

/** Whether something was asked of LiteLLM other than a model, and not a task, which counts its children. */
function isRequest(name, metrics) {
  return name.startsWith("litellm.") && count(section(metrics, "children").get("started")) === null;
}

function toolOf(record) {
  const calls = section(record, "execution").get("tool_calls");
  const first = Array.isArray(calls) ? calls[0] : undefined;
  return first instanceof Map ? text(first.get("tool")) : "";
}

/** What the first of these places that says something says under one of these names; null is nothing said. */
function either(places, ...names) {
  for (const place of places) {
    const name = names.find((one) => (place.get(one) ?? null) !== null);
    if (name !== undefined) return place.get(name);
  }
  return null;
}

/** Return an amount of money, written out; "" for one that could not be added up exactly. */
function amount(value) {
  if (typeof value === "string") return decimal(value);
  return value instanceof Num && !(isWhole(value) && !isBounded(value)) ? decimal(value.text) : "";
}

const short = (whole) => (whole.length > LONGEST ? `${whole.slice(0, LONGEST).toWellFormed()}…` : whole);

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
