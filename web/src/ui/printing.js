// The print: the tree as a plain table, all unfolded, up to a bound, saying what was left out.

import { linesOf } from "../report.js";
import { byId, counted, h, line, number } from "./dom.js";
import { showMoreFindings } from "./findings.js";
import { authorityOf, clock, kindName, money, statusMark, titleOf, tokens } from "./words.js";

const BOUND = 500; // rows

/** Keep the printed table up to date whenever the page is printed. */
export function preparePrinting(report, tree, filters) {
  globalThis.addEventListener("beforeprint", () => {
    showMoreFindings();
    byId("printed").replaceChildren(...printedTree(report, tree, filters));
  });
}

function printedTree(report, tree, filters) {
  const lines = linesOf(report, () => true, tree.shown);
  const heads = ["#", "Capsule", "Agent", "Authority", "Started (UTC)", "Tokens", "Cost", "Status", "Check"];
  const words = filters.inWords();
  const left = lines.length - BOUND;
  return [
    words ? h("p", {}, `Only capsules that match, with the tasks around them: ${words}.`) : null,
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, ...lines.slice(0, BOUND).map((entry) => printedRow(entry, report))),
    ),
    left > 0
      ? h(
          "p.left-out",
          {},
          `${counted(left, "capsule")} of ${number(lines.length)} ${left === 1 ? "is" : "are"} left out in print. The file itself holds all.`,
        )
      : null,
  ].filter(Boolean);
}

function printedRow({ row, level }, report) {
  const name = h("td", {}, `${kindName(row.kind)}: ${line(titleOf(row), 90)}`);
  name.style.setProperty("padding-inline-start", `${Math.min(level, 10) * 0.8}em`);
  const cells = [
    line(row.agent, 40),
    authorityOf(row),
    clock(row.started),
    tokens(row),
    line(money(row.cost), 30),
    `${statusMark(row.status)} ${line(row.status, 20)}`,
    report.severityOf(row.index) || (report.result?.complete ? "ok" : "not checked"),
  ];
  return h("tr", {}, h("td", {}, String(row.sequence ?? "?")), name, ...cells.map((words) => h("td", {}, words)));
}
