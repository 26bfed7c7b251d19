// Findings: what does not hold, in groups of one kind, each with a way to the capsule.

import { HEADINGS } from "../findings.js";
import { byId, counted, h, line } from "./dom.js";

const FIRST = 5; // of a kind, before one asks for more
const MORE = 200;
const PRINTED = 50;

let growers = []; // how to show more of each kind that is on the page

/** @param {(index: number) => void} jump shows a capsule */
export function showFindings(findings, jump) {
  const place = byId("findings");
  place.hidden = findings.length === 0;
  growers = [];
  const groups = [...Map.groupBy(findings, (finding) => `${finding.severity} ${finding.code}`).values()];
  groups.sort((a, b) => (a[0].severity === "doubtful") - (b[0].severity === "doubtful"));
  place.replaceChildren(h("h2", { id: "findings-title" }, "Findings"), ...groups.map((group) => groupOf(group, jump)));
}

/** Show of each kind as many as are worth their paper. */
export function showMoreFindings() {
  for (const grow of growers) grow(PRINTED);
}

function groupOf(group, jump) {
  const { code, severity } = group[0];
  const list = h("ol");
  const more = h("button", { type: "button", onclick: () => grow(MORE) });
  const left = h("p.print-only");
  const grow = (by) => {
    const from = list.childElementCount;
    list.append(...group.slice(from, from + by).map((finding) => findingItem(finding, jump)));
    const rest = group.length - list.childElementCount;
    more.hidden = left.hidden = rest === 0;
    more.textContent = `Show ${counted(Math.min(rest, MORE), "more", "more")} of ${counted(group.length, "finding")}`;
    left.textContent = `${counted(rest, "more finding")} of this kind ${rest === 1 ? "is" : "are"} left out here.`;
  };
  grow(FIRST);
  growers.push((upTo) => grow(Math.max(0, upTo - list.childElementCount)));
  return h(
    "article.group",
    { "data-severity": severity, "data-code": code },
    h(
      "h3",
      {},
      HEADINGS[code],
      " ",
      h("code", {}, code),
      " ",
      h("span.tag", {}, severity),
      " ",
      h("span.count", {}, counted(group.length, "finding")),
    ),
    list,
    more,
    left,
  );
}

function findingItem(finding, jump) {
  const { index, sequence, id, sentence, code } = finding;
  const where = index === null ? "The file" : `Capsule ${sequence ?? `in line ${index + 1}`}`;
  const name = id ? h("code.id", {}, line(id, 60)) : null;
  const link = h("button.link", { type: "button", onclick: () => jump(index) }, where);
  return h(
    "li.finding",
    { "data-code": code, "data-sequence": sequence ?? "", "data-id": id },
    h("span.where", {}, index === null ? where : link, " ", name),
    h("span.sentence", {}, line(sentence, 600)),
  );
}
