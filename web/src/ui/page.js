// The page: reads what the file says about itself, starts the engine, and lets the parts know of each other.

import { figuresOf } from "../figures.js";
import { Report } from "../report.js";
import { Line } from "../transport.js";
import { hideDetail, showDetail } from "./detail.js";
import { byId, counted, line, number } from "./dom.js";
import { Filters } from "./filters.js";
import { showFindings } from "./findings.js";
import { embeddedKeys, showKeys } from "./keys.js";
import { showLimits } from "./limits.js";
import { manifestOf, provenance } from "./manifest.js";
import { preparePrinting } from "./printing.js";
import { showSummary } from "./summary.js";
import { prepareTheme } from "./theme.js";
import { Tree } from "./tree.js";
import { NOT_AS_WRITTEN, failure, showChecks, showVerdict, verdictOf } from "./verdict.js";

/** @param {HTMLScriptElement} script the one that this is; its text is what the worker runs */
export function start(script) {
  // What fails must not look like a check that goes on, or that ended well.
  globalThis.addEventListener("error", ({ message }) => showVerdict(failure(message)));
  globalThis.addEventListener("unhandledrejection", ({ reason }) => showVerdict(failure(String(reason))));
  const [manifest, records] = [script.previousElementSibling, script.nextElementSibling];
  if (!isOnly(manifest, "manifest", "application/json") || !isOnly(records, "records", "text/plain")) {
    showVerdict(NOT_AS_WRITTEN);
    return;
  }
  const page = new Page(manifestOf(manifest.textContent));
  page.open(script.textContent, records);
}

/** Whether this element is as it was written, and no other could be taken for it. */
function isOnly(element, id, type) {
  const others = document.querySelectorAll(`[id="${id}" i]`);
  return others.length === 1 && others[0] === element && element.localName === "script" && element.type === type;
}

class Page {
  constructor(manifest) {
    this.report = new Report(manifest);
    this.embedded = embeddedKeys(manifest);
    this.keys = this.embedded;
    this.drawn = 0;
    this.tree = new Tree(this.report, (index) => this.show(index));
    this.filters = new Filters(
      this.report,
      (query) => this.line.ask("search", { query }),
      (matches) => this.tree.update(matches),
      { expand: () => this.tree.setAll(true), collapse: () => this.tree.setAll(false) },
    );
    byId("source").textContent = line(manifest.source, 200) || "Chain of capsules";
    byId("provenance").textContent = provenance(manifest);
    showLimits();
    prepareTheme(byId("theme"));
    preparePrinting(this.report, this.tree, this.filters);
    document.addEventListener("keydown", (event) => this.key(event));
  }

  open(script, data) {
    this.line = new Line(script, (message) => this[message.op](message));
    const { selection, checkpoints } = this.report.manifest;
    this.line.send("load", { data: data.textContent, selection, checkpoints });
    data.textContent = ""; // the engine has it now; twice is once too often for large chains
  }

  // What the engine tells ────────────────────────────────────────────────────────────────────────────

  rows({ rows, read }) {
    for (const row of rows) this.report.rows.push(row);
    const here = this.report.rows.length;
    showVerdict(
      {
        verdict: "working",
        title: "Reading the capsules …",
        text: `${counted(here, "capsule")} read, ${Math.floor(100 * read)} % of the data`,
      },
      read,
    );
    if (here >= 2 * this.drawn) this.draw();
  }

  loaded() {
    this.report.isLoaded = true;
    this.draw();
    this.use(this.keys);
  }

  progress({ done, total }) {
    showVerdict(
      {
        verdict: "working",
        title: "Checking the signatures …",
        text: `${number(done)} of ${counted(total, "capsule")}`,
      },
      total && done / total,
    );
  }

  result(result) {
    this.report.setResult(result);
    showFindings(result.findings, (index) => this.jump(index));
    showChecks(this.report, this.keys);
    this.tree.draw();
    if (this.filters.check.value) this.filters.run();
    if (!result.complete) return;
    showVerdict(verdictOf(this.report, this.keys));
    if (this.tree.chosen >= 0) this.show(this.tree.chosen);
  }

  failed({ message }) {
    showVerdict(failure(message));
  }

  // What the reader does ─────────────────────────────────────────────────────────────────────────────

  draw() {
    this.drawn = this.report.rows.length;
    this.report.rebuild();
    showSummary(figuresOf(this.report.rows));
    this.filters.refresh();
    this.filters.run();
  }

  use(keys) {
    this.keys = keys;
    showKeys(keys, this.embedded, (others) => this.use(others));
    this.progress({ done: 0, total: this.report.rows.length });
    this.line.send("verify", { keys });
  }

  async show(index) {
    const said = await this.line.ask("talk", { index });
    if (this.tree.chosen === index)
      showDetail(this.report, this.keys, this.report.rows[index], said, () => this.close());
  }

  close() {
    hideDetail();
    this.tree.pick(-1);
    this.tree.grid.focus({ preventScroll: true });
  }

  async jump(index) {
    if (this.filters.isActive()) await this.filters.clear();
    byId("capsules").scrollIntoView({ block: "start" });
    this.tree.reveal(index);
  }

  key(event) {
    const isTyping = event.target.matches?.("input, select, textarea");
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      byId("search").focus();
    } else if (event.key === "Escape" && !isTyping && !byId("detail").hidden) this.close();
    else if (event.key === "Escape" && event.target.id === "search") {
      this.filters.clear();
      this.tree.grid.focus({ preventScroll: true });
    }
  }
}
