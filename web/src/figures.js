// Figures: what the records of a report add up to. Calls are summed, never tasks, whose own sums hold their calls already.

import { DecimalSum } from "./decimals.js";

const [FEW_BARS, BARS] = [24, 60]; // for some calls, and for many
const MANY = 300; // calls
const [MODELS, AUTHORITIES] = [8, 6]; // shown one by one

export function figuresOf(rows) {
  const calls = rows.filter((row) => row.kind === "call");
  return {
    capsules: rows.length,
    tasks: rows.filter((row) => row.kind === "task").length,
    failures: rows.filter((row) => row.status === "failure").length,
    blocked: rows.filter((row) => row.status === "blocked").length,
    partial: rows.filter((row) => row.status === "partial").length,
    span: spanOf(rows),
    models: modelsOf(calls),
    times: timesOf(calls),
    authorities: sharesOf(rows),
    ...sumsOf(calls, rows.filter((row) => row.kind === "request" && row.cost !== "")),
  };
}

function sumsOf(calls, priced = []) {
  const cost = new DecimalSum();
  const sums = { calls: calls.length, tokensIn: 0n, tokensOut: 0n, usageUnknown: 0, cost };
  for (const call of calls) {
    sums.tokensIn += call.tokensIn ?? 0n;
    sums.tokensOut += call.tokensOut ?? 0n;
    if (call.tokensIn === null && call.tokensOut === null) sums.usageUnknown += 1;
    cost.add(call.cost);
  }
  for (const request of priced) cost.add(request.cost);
  return sums;
}

function spanOf(rows) {
  let [first, last] = [Infinity, -Infinity];
  for (const { started, duration } of rows) {
    if (started === null) continue;
    first = Math.min(first, started);
    last = Math.max(last, started + (duration ?? 0) * 1000);
  }
  return last < first ? null : { first, last };
}

function modelsOf(calls) {
  const groups = Map.groupBy(calls, (call) => call.model || "(no model named)");
  const sorted = [...groups].sort((a, b) => b[1].length - a[1].length || (a[0] < b[0] ? -1 : 1));
  const models = sorted.slice(0, MODELS).map(([model, group]) => ({ model, ...sumsOf(group) }));
  const others = sorted.slice(MODELS);
  if (others.length > 0)
    models.push({ model: `${others.length} others`, ...sumsOf(others.flatMap(([, group]) => group)) });
  return models;
}

/** How many calls started in each of equal stretches of time, and how many of them did not succeed. */
function timesOf(calls) {
  const starts = calls.filter((call) => call.started !== null);
  if (starts.length === 0) return null;
  let [first, last] = [Infinity, -Infinity];
  for (const { started } of starts) [first, last] = [Math.min(first, started), Math.max(last, started)];
  const length = starts.length < MANY ? FEW_BARS : BARS;
  const bars = Array.from({ length }, () => ({ calls: 0, failed: 0 }));
  const width = (last - first) / length || 1;
  for (const call of starts) {
    const bar = bars[Math.min(length - 1, Math.floor((call.started - first) / width))];
    bar.calls += 1;
    if (call.status !== "success") bar.failed += 1;
  }
  return { first, last, bars };
}

function sharesOf(rows) {
  const groups = Map.groupBy(rows, (row) => row.authority);
  const shares = [...groups].map(([authority, group]) => ({ authority, count: group.length }));
  shares.sort((a, b) => b.count - a.count);
  const others = shares.splice(AUTHORITIES);
  if (others.length > 0) {
    const count = others.reduce((sum, share) => sum + share.count, 0);
    shares.push({ authority: `${others.length} others`, count });
  }
  return shares;
}
