// The summary: figures and plots. Every plot says in words what it shows, and its numbers stand beside it.

import { printed, span } from "../moments.js";
import { byId, counted, h, line, number, svg } from "./dom.js";
import { label } from "./words.js";

const WIDTH = 1000; // units of a drawing, stretched to the room there is
const HEIGHT = 120;

export function showSummary(figures) {
  byId("figures").replaceChildren(figureList(figures));
  byId("charts").replaceChildren(
    ...[
      timeChart(figures.times),
      modelTable(figures.models),
      authorityChart(figures.authorities, figures.capsules),
    ].filter(Boolean),
  );
}

function figureList(figures) {
  const { calls, usageUnknown, cost, failures, blocked, partial } = figures;
  const others = [blocked && `${number(blocked)} blocked`, partial && `${number(partial)} cut short`].filter(Boolean);
  const length = figures.span && span(figures.span.last - figures.span.first);
  return h(
    "dl.figures",
    {},
    figure("Capsules", number(figures.capsules), ""),
    figure("Tasks", number(figures.tasks), ""),
    figure("LLM calls", number(calls), ""),
    figure("Tokens in", number(figures.tokensIn), usageUnknown ? `unknown for ${counted(usageUnknown, "call")}` : ""),
    figure("Tokens out", number(figures.tokensOut), ""),
    figure("Cost", `$${cost}`, cost.unknown ? `unknown for ${counted(cost.unknown, "call")}` : "exact sum"),
    figure("Failures", number(failures), others.join(", ")),
    figure("Time span", length ?? "unknown", figures.span ? `from ${printed(figures.span.first)}` : ""),
  );
}

function figure(name, value, note) {
  return h(
    "div",
    {},
    h("dt", {}, name),
    h("dd", {}, h("span.value", {}, value), note ? h("span.note", {}, note) : null),
  );
}

function panel(name, title, ...children) {
  return h("figure", { class: `panel ${name}` }, h("figcaption", {}, h("h3", {}, title)), ...children);
}

function timeChart(times) {
  if (times === null) return null;
  const most = Math.max(...times.bars.map((bar) => bar.calls));
  const failed = times.bars.reduce((sum, bar) => sum + bar.failed, 0);
  const step = WIDTH / times.bars.length;
  const drawing = drawn(
    `LLM calls over time, from ${printed(times.first)} to ${printed(times.last)}: at most ${counted(most, "call")} in one of ${times.bars.length} equal stretches, ${number(failed)} in all that did not succeed.`,
    HEIGHT,
  );
  times.bars.forEach(({ calls, failed: bad }, index) => {
    if (calls === 0) return;
    const x = index * step + 1;
    const height = Math.max(2, (calls / most) * HEIGHT);
    const red = (bad / calls) * height;
    drawing.append(svg("rect.success", { x, width: step - 2, y: HEIGHT - height, height: height - red }));
    if (bad > 0) drawing.append(svg("rect.failure", { x, width: step - 2, y: HEIGHT - red, height: red }));
  });
  return panel(
    "times",
    "LLM calls over time",
    h(
      "div.axis",
      {},
      h("span", {}, `at most ${counted(most, "call")} a bar`),
      legend([
        ["success", "succeeded"],
        ["failure", "did not"],
      ]),
    ),
    drawing,
    h("div.axis", {}, h("span", {}, printed(times.first)), h("span", {}, printed(times.last))),
  );
}

function modelTable(models) {
  if (models.length === 0) return null;
  const mostTokens = Math.max(1, ...models.map((model) => Number(model.tokensIn + model.tokensOut)));
  const mostCost = Math.max(Number.MIN_VALUE, ...models.map((model) => Number(model.cost)));
  const rows = models.map((model) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, line(model.model, 60)),
      h("td", {}, number(model.calls)),
      h(
        "td",
        {},
        model.usageUnknown === model.calls ? "unknown" : `${number(model.tokensIn)} → ${number(model.tokensOut)}`,
      ),
      h(
        "td.bar",
        {},
        bar(
          [
            ["tokens-in", Number(model.tokensIn)],
            ["tokens-out", Number(model.tokensOut)],
          ],
          mostTokens,
          `Tokens of ${line(model.model, 60)}: ${number(model.tokensIn)} in, ${number(model.tokensOut)} out`,
        ),
      ),
      h("td", {}, model.cost.unknown === model.calls ? "unknown" : `$${model.cost}`),
      h(
        "td.bar",
        {},
        bar([["cost", Number(model.cost)]], mostCost, `Cost of ${line(model.model, 60)}: $${model.cost}`),
      ),
    ),
  );
  const heads = ["Model", "Calls", "Tokens", "in and out", "Cost", "share"].map((name) =>
    h("th", { scope: "col" }, name),
  );
  return panel(
    "models",
    "Tokens and cost by model",
    legend([
      ["tokens-in", "tokens in"],
      ["tokens-out", "tokens out"],
      ["cost", "cost"],
    ]),
    h("div.scroll", {}, h("table", {}, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...rows))),
  );
}

function bar(parts, most, words) {
  const drawing = drawn(words, 10);
  let x = 0;
  for (const [name, value] of parts) {
    const width = value > 0 ? Math.max(3, (value / most) * WIDTH) : 0;
    drawing.append(svg(`rect.${name}`, { x, width, y: 0, height: 10 }));
    x += width;
  }
  return drawing;
}

const AUTHORITIES = ["autonomous", "human_approved", "policy", "escalated"];
const authorityClass = (authority) => (AUTHORITIES.includes(authority) ? authority : "unknown");

function authorityChart(shares, total) {
  if (total === 0) return null;
  const share = (count) => `${((100 * count) / total).toFixed(count === total ? 0 : 1)} %`;
  const words = shares.map(({ authority, count }) => `${label(line(authority, 40))} ${share(count)}`).join(", ");
  const parts = shares.map(({ authority, count }) => [authorityClass(authority), count]);
  return panel(
    "authorities",
    "Under whose authority",
    bar(parts, total, `Shares of authority: ${words}`),
    h(
      "ul.legend",
      {},
      ...shares
        .slice(0, 8)
        .map(({ authority, count }) =>
          h(
            "li",
            {},
            h("span", { class: `swatch ${authorityClass(authority)}` }),
            `${label(line(authority, 40))}: ${number(count)} (${share(count)})`,
          ),
        ),
    ),
    h(
      "p.help",
      {},
      "An approval is what the recording program asserted; the seal proves that it said so, not that a person approved.",
    ),
  );
}

function drawn(words, height) {
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": words },
    svg("title", {}, words),
  );
}

function legend(entries) {
  return h(
    "ul.legend",
    {},
    ...entries.map(([name, words]) => h("li", {}, h("span", { class: `swatch ${name}` }), words)),
  );
}
