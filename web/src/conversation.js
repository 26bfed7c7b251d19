// Conversations: `capsule_sdk/evidence/showing/conversation.py` a second time. What a call to a model was asked, and what it
// answered, in turns; a part that has no name here is told by its type and as the value that it is.

import { section, text } from "./facts.js";
import { Num } from "./json.js";

export const ANSWER = "answer";
const MOST = 400; // turns that are drawn, the newest of them
const PARTS = 200; // parts of one
const PLAIN = new Set(["model", "message_count"]);
const TEXTS = new Set(["text", "input_text", "output_text", ""]);
const EACH = { provider_tools: "provider ran", citations: "cites", other: "other", images: "image" };

const listOf = (value) => (Array.isArray(value) ? value : []);
const isNothing = (value) => value === null || value === undefined || value === "" || value.length === 0;
const name = (value) => (typeof value === "string" ? value : "");

function firstCall(record) {
  const call = listOf(section(record, "execution").get("tool_calls"))[0];
  return call instanceof Map ? call : new Map();
}

const argumentsOf = (record) => section(firstCall(record), "arguments");

/** Which earlier capsule holds the beginning of this one's conversation: its id and the hash of its prompt, or null. */
export function continued(record) {
  const said = section(argumentsOf(record), "continues");
  const [id, hash] = [said.get("capsule_id"), said.get("hash")];
  return typeof id === "string" && typeof hash === "string" ? { id, hash } : null;
}

/** The hash of a capsule's prompt, by which one that continues it knows it. */
export const promptHash = (record) => section(record, "reasoning").get("prompt_hash");

/**
 * Return the conversation of a call, or null for a call that says no more than a text.
 *
 * @param {Map} record the capsule
 * @param {Map[]} earlier those that hold its beginning, the newest first
 * @param {string|null} missing the one of them that is not here, or does not fit
 */
export function conversationOf(record, earlier, missing) {
  const given = argumentsOf(record);
  const result = section(record, "outcome").get("result") ?? firstCall(record).get("result");
  const isPlain = [...given.keys()].every((key) => PLAIN.has(key));
  if (isPlain && !(result instanceof Map) && !Array.isArray(result)) return null;
  const messages = [...[...earlier].reverse(), record].flatMap((one) => listOf(argumentsOf(one).get("messages")));
  const hasMessages = Array.isArray(given.get("messages"));
  const turns = messages.slice(-MOST).map(turnOf);
  const request = text(section(record, "trigger").get("request"));
  if (!hasMessages && request) turns.push({ speaker: "user", parts: [{ kind: "", value: request }] });
  const metrics = section(section(record, "outcome"), "metrics");
  const estimate = section(metrics, "tokens_estimated");
  return {
    tools: listOf(section(given, "tools").get("names")).slice(0, PARTS).map(text),
    parameters: section(given, "parameters"),
    turns: [...turns, ...answersOf(result)],
    notes: notesOf(given, hasMessages, missing, messages.length - MOST),
    estimated: estimate.size > 0 ? [estimate.get("tokens_in"), estimate.get("tokens_out")].map((n) => text(n) || "?") : null,
    finish: namesItsEnd(result) ? "" : text(section(section(record, "context"), "environment").get("finish_reason")),
    hasMessages,
  };
}

const namesItsEnd = (result) => result instanceof Map && result.has("finish_reason");

function notesOf(given, hasMessages, missing, cut) {
  const count = given.get("message_count");
  const notes = [];
  if (!hasMessages && count instanceof Num && Number(count) > 1)
    notes.push(`${count.text} messages were sent, of which the user's last is here: messages="full" seals all.`);
  if (missing !== null) notes.push(`The beginning is held by capsule ${missing}, which is not here.`);
  if (cut > 0) notes.push(`${cut} earlier messages are left out.`);
  return notes;
}

// What was asked ─────────────────────────────────────────────────────────────────────────────────────

function turnOf(message) {
  if (!(message instanceof Map)) return { speaker: "", parts: [{ kind: "", value: message }] };
  const speaker = name(message.get("role")) || name(message.get("type"));
  const parts = [];
  for (const [key, value] of message) {
    if (key === "role" || (key === "type" && value === speaker) || isNothing(value)) continue;
    if (key === "content" || key === "parts") parts.push(...contentOf(value));
    else if (key === "tool_calls") parts.push(...listOf(value).map(toolCall));
    else parts.push({ kind: key, value });
  }
  return { speaker, parts: bounded(parts) };
}

function contentOf(content) {
  return (Array.isArray(content) ? content : [content]).flatMap((part) => {
    if (!(part instanceof Map)) return [{ kind: "", value: part }];
    const kind = name(part.get("type"));
    const said = part.get("text");
    const rest = new Map([...part].filter(([key]) => key !== "type" && key !== "text"));
    if (typeof said !== "string" || !TEXTS.has(kind))
      return [{ kind: kind || "part", value: said === undefined ? rest : new Map([["text", said], ...rest]) }];
    return [{ kind: "", value: said }, ...(rest.size > 0 ? [{ kind: "beside", value: rest }] : [])];
  });
}

/** A tool call as OpenAI's messages and as sealed answers have it. */
function toolCall(call) {
  if (!(call instanceof Map)) return { kind: "calls", value: call };
  const within = [call.get("function"), call.get("custom")].find((one) => one instanceof Map) ?? call;
  const type = name(call.get("type"));
  const as = type && type !== "function" && type !== "tool_use" ? ` (${type})` : "";
  return {
    kind: `calls ${text(within.get("name")) || "?"}${as}`,
    value: within.get("arguments") ?? within.get("input") ?? null,
  };
}

// What was answered ──────────────────────────────────────────────────────────────────────────────────

function answersOf(result) {
  if (isNothing(result)) return [];
  const isSeveral = Array.isArray(result) && result.every((one) => typeof one === "string" || one instanceof Map);
  const choices = isSeveral ? result.slice(0, PARTS) : [result];
  return choices.map((choice, place) => ({
    speaker: choices.length > 1 ? `${ANSWER} ${place + 1}` : ANSWER,
    parts: bounded(choice instanceof Map ? [...choice].flatMap(answerPart) : [{ kind: "", value: choice }]),
  }));
}

function answerPart([key, value]) {
  if (isNothing(value)) return [];
  if (key === "text") return [{ kind: "", value }];
  if (key === "tool_calls") return (Array.isArray(value) ? value : [value]).map(toolCall);
  if (!Object.hasOwn(EACH, key) || !Array.isArray(value)) return [{ kind: key.replaceAll("_", " "), value }];
  return value.map((one) => {
    const type = one instanceof Map ? name(one.get("type")) : "";
    const isWrapped = key === "other" && one instanceof Map && one.has("value");
    return { kind: `${EACH[key]} ${type}`.trim(), value: isWrapped ? one.get("value") : one };
  });
}

function bounded(parts) {
  const more = parts.length - PARTS;
  if (more <= 0) return parts;
  return [...parts.slice(0, PARTS), { kind: "", value: `… and ${more} more parts, in the raw record` }];
}

/** Return a record whose sections do not repeat what is drawn as a conversation. */
export function withoutConversation(record, talk) {
  const above = "(see the conversation above)";
  const isLarge = (value) => value instanceof Map || Array.isArray(value);
  const shown = new Map(record);
  const [execution, outcome] = [record.get("execution"), record.get("outcome")];
  if (execution instanceof Map && listOf(execution.get("tool_calls"))[0] instanceof Map) {
    const call = new Map(firstCall(record));
    if (talk.hasMessages) call.set("arguments", new Map(call.get("arguments")).set("messages", above));
    if (isLarge(call.get("result"))) call.set("result", above);
    shown.set("execution", new Map(execution).set("tool_calls", [call, ...execution.get("tool_calls").slice(1)]));
  }
  if (outcome instanceof Map && isLarge(outcome.get("result"))) {
    shown.set("outcome", new Map(outcome).set("result", above));
  }
  return shown;
}
