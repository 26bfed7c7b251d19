// Shape: whether an object is a capsule at all (CPS section 1), as qp-capsule's own validation has it.

import { Num } from "./json.js";
import { isZoned, microseconds } from "./moments.js";
import { SEAL_FIELDS, isHash } from "./seals.js";

const TYPES = new Set(["agent", "tool", "system", "kill", "workflow", "chat", "vault", "auth"]);
const SECTIONS = {
  trigger: "type source timestamp request correlation_id user_id",
  context: "agent_id session_id environment",
  reasoning: "analysis options options_considered selected_option reasoning confidence model prompt_hash",
  authority: "type approver policy_reference chain escalation_reason",
  execution: "tool_calls duration_ms resources_used",
  outcome: "status result summary error side_effects metrics",
};
const TOOL_CALL = "tool arguments result success duration_ms error";
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const isText = (value) => typeof value === "string";
const isMap = (value) => value instanceof Map;
const isWhole = (value) => value instanceof Num && /^-?[0-9]+$/.test(value.text);
const isPlace = (value) => value >= 0 && Number.isSafeInteger(value);
const isFraction = (value) => value instanceof Num && Number(value) >= 0 && Number(value) <= 1;
const isLink = (value) => isText(value) && isHash(value.toLowerCase());
const isMoment = (value) => isText(value) && isZoned(value);

/** Whether a text is an id as it is sealed. */
export const isUuid = (value) => isText(value) && UUID.test(value);

/** Say which part of an object keeps it from being a capsule; null where it is one. */
export function misfit(record) {
  const rule = RULES.find(([, holds]) => !holds(record));
  if (rule !== undefined) return `its ${rule[0]} is not as the protocol has it`;
  const odd = [...SEAL_FIELDS].find((name) => !isSealed(record.get(name) ?? null));
  if (odd !== undefined) return `its ${odd} is not a text`;
  const signedAt = record.get("signed_at");
  return signedAt && microseconds(signedAt) === null ? "its signed_at is not a date and time" : null;
}

const RULES = [
  ["id", (record) => isUuid(record.get("id"))],
  ["type", (record) => TYPES.has(record.get("type"))],
  ["domain", (record) => isText(record.get("domain"))],
  ["parent_id", (record) => record.get("parent_id") === null || isUuid(record.get("parent_id"))],
  ["sequence", (record) => isWhole(record.get("sequence")) && isPlace(Number(record.get("sequence")))],
  ["previous_hash", fitsItsPlace],
  [
    "spec_version",
    (record) =>
      !record.has("spec_version") || (isText(record.get("spec_version")) && record.get("spec_version") !== ""),
  ],
  ...Object.entries(SECTIONS).map(([name, keys]) => [name, (record) => hasKeys(record.get(name), keys)]),
  within("trigger", "type", isText),
  within("trigger", "timestamp", isMoment),
  within("context", "environment", isMap),
  within("reasoning", "confidence", isFraction),
  within("execution", "duration_ms", isWhole),
  within("execution", "resources_used", isMap),
  within("execution", "tool_calls", (calls) => Array.isArray(calls) && calls.every((call) => hasKeys(call, TOOL_CALL))),
];

function fitsItsPlace(record) {
  const previous = record.get("previous_hash");
  return Number(record.get("sequence")) === 0 ? previous === null : isLink(previous);
}

/** A rule for a field of a section, which an earlier rule has made sure is there. */
function within(section, field, holds) {
  return [`${section}.${field}`, (record) => holds(record.get(section).get(field))];
}

function hasKeys(value, keys) {
  const names = keys.split(" ");
  return isMap(value) && value.size === names.length && names.every((name) => value.has(name));
}

const isSealed = (value) => value === null || (isText(value) && value.isWellFormed());
