// What a file says that its records were selected for. Nobody has signed it; whether each record fits can be checked.

import { section } from "./facts.js";
import { microseconds } from "./moments.js";
import { isUuid } from "./shape.js";

const FIELDS = {
  agent: (record) => section(record, "context").get("agent_id"),
  domain: (record) => record.get("domain"),
  session: (record) => section(record, "context").get("session_id"),
  user: (record) => section(record, "trigger").get("user_id"),
  status: (record) => section(record, "outcome").get("status"),
};
const TIMES = ["since", "until"];

/** Whether this is a selection that can be made: known conditions, each a text, times that are times, a task's id. */
export function isClaim(selection) {
  if (selection === null) return true;
  return Object.entries(selection).every(([name, value]) => {
    if (typeof value !== "string") return false;
    if (name === "task") return isUuid(value.toLowerCase());
    return TIMES.includes(name) ? microseconds(value) !== null : Object.hasOwn(FIELDS, name);
  });
}

/** Whether a record meets the conditions of a claim, but for that of a task, which is one of the whole file. */
export function meets(selection, record) {
  return Object.entries(selection ?? {}).every(([name, value]) => {
    if (Object.hasOwn(FIELDS, name)) return FIELDS[name](record) === value;
    if (!TIMES.includes(name)) return true;
    const began = microseconds(section(record, "trigger").get("timestamp"));
    if (began === null) return false;
    return name === "since" ? began >= microseconds(value) : began < microseconds(value);
  });
}
