// Filters: which capsules are shown. The fields are compared here; words are searched for by the engine, which has the texts.

import { FACETS } from "../report.js";
import { byId, counted, h, line, number } from "./dom.js";

const PATIENCE = 120; // milliseconds without a key before a search begins
const CHOICES = 200; // of a field, at most

export class Filters {
  /**
   * @param {Report} report
   * @param {(query: string) => Promise<number[]>} search asks for the records with all words of a query
   * @param {(matches: Set<number>|null) => void} apply shows these records; null shows all
   * @param {{expand: () => void, collapse: () => void}} tree
   */
  constructor(report, search, apply, tree) {
    Object.assign(this, { report, search, apply });
    this.round = 0;
    this.field = h("input", {
      id: "search",
      type: "search",
      placeholder: "Search in all texts",
      "aria-label": "Search in all texts",
      "aria-keyshortcuts": "/",
      autocomplete: "off",
      spellcheck: "false",
    });
    this.selects = Object.fromEntries(Object.keys(FACETS).map((name) => [name, h("select", { id: `filter-${name}` })]));
    this.check = h(
      "select",
      { id: "filter-check" },
      ...["", "broken", "doubtful"].map((value) => h("option", { value }, value || "any")),
    );
    this.count = h("output", { id: "count", for: "search" });
    this.draw(tree);
    this.field.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.run(), PATIENCE);
    });
  }

  draw(tree) {
    const fields = [
      ...Object.entries(this.selects).map(([name, select]) => [FACETS[name], select]),
      ["Findings", this.check],
    ];
    const form = byId("filters");
    form.replaceChildren(
      h("div.searching", {}, this.field, h("kbd", { "aria-hidden": "true" }, "/")),
      h("div.facets", {}, ...fields.map(([words, select]) => h("label", {}, h("span", {}, words), select))),
      h(
        "div.row",
        {},
        this.count,
        h("button.quiet", { type: "button", id: "clear", onclick: () => this.clear() }, "Clear filters"),
        h("button.quiet", { type: "button", id: "expand", onclick: tree.expand }, "Unfold all"),
        h("button.quiet", { type: "button", id: "collapse", onclick: tree.collapse }, "Fold all"),
      ),
    );
    form.addEventListener("change", (event) => event.target !== this.field && this.run());
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** Offer the values that there are. */
  refresh() {
    for (const [name, select] of Object.entries(this.selects)) {
      const chosen = select.value;
      const options = this.report.values(name).slice(0, CHOICES);
      select.replaceChildren(
        h("option", { value: "" }, "any"),
        ...options.map(([value, count]) => h("option", { value }, `${line(value, 50)} (${number(count)})`)),
      );
      select.value = options.some(([value]) => value === chosen) ? chosen : "";
    }
  }

  isActive() {
    return Boolean(
      this.field.value.trim() || this.check.value || Object.values(this.selects).some((select) => select.value),
    );
  }

  /** Show all again, and resolve when they are shown. */
  clear() {
    byId("filters").reset();
    return this.run();
  }

  /** Filter anew. Of several runs under way the last one counts. */
  async run() {
    const round = (this.round += 1);
    const found = this.field.value.trim() ? new Set(await this.search(this.field.value)) : null;
    if (round !== this.round) return;
    const matches = this.isActive() ? new Set(this.matching(found)) : null;
    const total = this.report.rows.length;
    this.count.textContent =
      matches === null ? counted(total, "capsule") : `${number(matches.size)} of ${counted(total, "capsule")} match`;
    this.apply(matches);
  }

  *matching(found) {
    const wanted = Object.entries(this.selects).filter(([, select]) => select.value);
    for (const row of this.report.rows) {
      if (found !== null && !found.has(row.index)) continue;
      if (this.check.value && this.report.severityOf(row.index) !== this.check.value) continue;
      if (wanted.every(([name, select]) => row[name] === select.value)) yield row.index;
    }
  }

  /** What is filtered by, in words, for the print. */
  inWords() {
    const parts = Object.entries(this.selects)
      .filter(([, select]) => select.value)
      .map(([name, select]) => `${FACETS[name].toLowerCase()} ${line(select.value, 60)}`);
    if (this.check.value) parts.push(`findings: ${this.check.value}`);
    if (this.field.value.trim()) parts.push(`containing “${line(this.field.value.trim(), 60)}”`);
    return parts.join(", ");
  }
}
