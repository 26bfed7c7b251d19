// Words: how sealed values are called on the page.

import { line } from "./dom.js";

const STATUS_MARKS = { success: "✓", failure: "✕", blocked: "⊘", partial: "◐", pending: "…" };
const KINDS = { call: "LLM call", request: "Request", task: "Task", system: "System", unreadable: "Unreadable" };

export const statusMark = (status) => STATUS_MARKS[status] ?? "?";
export const kindName = (kind) => KINDS[kind];
export const label = (name) => name.replaceAll("_", " ").replace(/^./, (char) => char.toUpperCase());

/** What a row is called: a call by its model, all else by its own name. */
export const titleOf = (row) => (row.kind === "call" && row.model ? row.model : row.name);

export function authorityOf(row) {
  const by = row.approver ? ` by ${line(row.approver, 60)}` : "";
  return row.authority === "autonomous" ? "Autonomous" : label(line(row.authority, 40)) + by;
}

export function duration(milliseconds) {
  if (milliseconds === null) return "";
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 60_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return `${(milliseconds / 60_000).toFixed(1)} min`;
}

export function tokens(row) {
  if (row.tokensIn === null && row.tokensOut === null) return "";
  const part = (value) => (value === null ? "?" : value.toLocaleString("en"));
  return `${part(row.tokensIn)} → ${part(row.tokensOut)}`;
}

export const money = (text) => (text ? `$${text}` : "");

/** "2026-03-01 12:00:00", for a column whose heading says UTC. */
export const clock = (moment) =>
  moment === null ? "" : new Date(Math.floor(moment / 1000)).toISOString().slice(0, 19).replace("T", " ");
