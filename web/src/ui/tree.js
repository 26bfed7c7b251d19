// The tree: capsules under the tasks that made them, as a treegrid (WAI-ARIA APG) of which only the visible rows exist.

import { linesOf } from "../report.js";
import { byId, h, line } from "./dom.js";
import { authorityOf, clock, duration, kindName, money, statusMark, titleOf, tokens } from "./words.js";

const ROW = 36; // pixels; the style sheet says the same
const SPARE = 12; // rows drawn above and below what is seen
const OPEN_ALL_UP_TO = 200; // capsules

const COLUMNS = [
  ["name", "Capsule"],
  ["agent", "Agent"],
  ["authority", "Authority"],
  ["started", "Started (UTC)"],
  ["duration", "Duration"],
  ["tokens", "Tokens"],
  ["cost", "Cost"],
  ["status", "Status"],
  ["check", "Check"],
];

export class Tree {
  /**
   * @param {Report} report
   * @param {(index: number) => void} choose shows the capsule in detail
   */
  constructor(report, choose) {
    this.report = report;
    this.choose = choose;
    this.toggled = new Set(); // rows that are not as they are by default
    this.openByDefault = false;
    this.shown = null;
    this.matches = null;
    this.lines = [];
    this.active = -1; // index of the record that the keyboard is at
    this.chosen = -1;
    this.build();
  }

  build() {
    this.body = h("div.rows", { role: "rowgroup" });
    const heads = COLUMNS.map(([name, words]) => h("div", { class: `cell ${name}`, role: "columnheader" }, words));
    this.grid = h(
      "div.grid",
      {
        role: "treegrid",
        tabindex: "0",
        "aria-label": "Capsules, each under the task that made it",
        "aria-colcount": COLUMNS.length,
      },
      h("div", { role: "rowgroup", class: "heads" }, h("div.head", { role: "row", "aria-rowindex": "1" }, ...heads)),
      this.body,
    );
    this.empty = h("p.empty", { hidden: true }, "No capsule matches.");
    byId("tree").replaceChildren(this.grid, this.empty);
    this.grid.addEventListener("scroll", () => this.draw());
    this.grid.addEventListener("keydown", (event) => this.key(event));
    this.grid.addEventListener("focus", () => this.active < 0 && this.lines.length && this.goTo(0));
    // Before the focus comes, which would draw the rows anew under the pointer, so that no click followed.
    this.body.addEventListener("mousedown", (event) => (this.active = indexAt(event) ?? this.active));
    this.body.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.draw()).observe(this.grid);
  }

  /** Take over new records or another filter: `matches` are the indexes that match, null for all. */
  update(matches) {
    this.openByDefault = matches !== null || this.report.rows.length <= OPEN_ALL_UP_TO;
    this.toggled.clear();
    this.matches = matches;
    this.shown = matches === null ? null : withAncestors(matches, this.report);
    this.refresh();
  }

  setAll(isOpen) {
    this.openByDefault = isOpen;
    this.toggled.clear();
    this.refresh();
  }

  isOpen = (row) => this.openByDefault !== this.toggled.has(row.index);

  refresh() {
    this.lines = linesOf(this.report, this.isOpen, this.shown);
    this.places = new Map(this.lines.map((entry, place) => [entry.row.index, place]));
    this.body.style.height = `${this.lines.length * ROW}px`;
    this.grid.setAttribute("aria-rowcount", this.lines.length + 1);
    this.empty.hidden = this.lines.length > 0 || !this.report.isLoaded;
    if (!this.places.has(this.active)) this.active = -1;
    this.draw();
  }

  /** Draw the rows in sight. */
  draw() {
    const first = Math.max(0, Math.floor(this.grid.scrollTop / ROW) - SPARE);
    const last = Math.min(this.lines.length, Math.ceil((this.grid.scrollTop + this.grid.clientHeight) / ROW) + SPARE);
    const rows = [];
    for (let place = first; place < last; place += 1) rows.push(this.row(this.lines[place], place));
    this.body.replaceChildren(...rows);
    const active = this.places?.get(this.active);
    if (active >= first && active < last) this.grid.setAttribute("aria-activedescendant", `row-${this.active}`);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  row({ row, level, place: position, size, hasChildren, isOpen }, place) {
    const severity = this.report.severityOf(row.index);
    const element = h(
      "div.row",
      {
        id: `row-${row.index}`,
        role: "row",
        "data-index": row.index,
        "data-severity": severity,
        "aria-level": level,
        "aria-posinset": position,
        "aria-setsize": size,
        "aria-rowindex": place + 2,
        "aria-expanded": hasChildren ? String(isOpen) : null,
        "aria-selected": String(row.index === this.chosen),
      },
      this.name(row, level, hasChildren, isOpen),
      cell("agent", line(row.agent, 60)),
      cell("authority", authorityOf(row)),
      cell("started", clock(row.started)),
      cell("duration", duration(row.duration)),
      cell("tokens", tokens(row)),
      cell("cost", line(money(row.cost), 40)),
      cell("status", `${statusMark(row.status)} ${line(row.status, 20)}`, row.status),
      check(severity, this.report.result),
    );
    element.style.top = `${place * ROW}px`;
    element.classList.toggle("active", row.index === this.active);
    element.classList.toggle("around", this.matches !== null && !this.matches.has(row.index));
    return element;
  }

  name(row, level, hasChildren, isOpen) {
    const twisty = hasChildren ? (isOpen ? "▾" : "▸") : "";
    const strayed =
      row.parent && this.report.parents[row.index] === null ? `under ${line(row.parent, 8)}, not here · ` : "";
    const element = h(
      "div.cell.name",
      { role: "gridcell" },
      h("span.twisty", { "aria-hidden": "true" }, twisty),
      h("span", { class: `kind ${row.kind}` }, kindName(row.kind)),
      h("bdi.title", {}, line(titleOf(row), 120)),
      h("bdi.words", {}, strayed + line(row.words, 160)),
    );
    element.style.setProperty("--level", Math.min(level - 1, 14));
    return element;
  }

  click(event) {
    const index = indexAt(event);
    if (index === null) return;
    this.active = index;
    if (event.target.classList.contains("twisty")) this.toggle(this.lines[this.places.get(index)]);
    else this.pick(index);
  }

  pick(index) {
    this.chosen = index;
    this.draw();
    if (index >= 0) this.choose(index);
  }

  toggle({ row, hasChildren }) {
    if (!hasChildren) return;
    if (!this.toggled.delete(row.index)) this.toggled.add(row.index);
    this.refresh();
  }

  /** Keys of the APG's treegrid pattern, with rows as the only stops. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const place = this.places.get(this.active) ?? 0;
    const page = Math.max(1, Math.floor(this.grid.clientHeight / ROW) - 2);
    const moves = {
      ArrowDown: () => this.goTo(place + 1),
      ArrowUp: () => this.goTo(place - 1),
      PageDown: () => this.goTo(place + page),
      PageUp: () => this.goTo(place - page),
      Home: () => this.goTo(0),
      End: () => this.goTo(this.lines.length - 1),
      ArrowRight: () => this.goIn(this.lines[place], place),
      ArrowLeft: () => this.goOut(this.lines[place]),
      Enter: () => this.pick(this.active),
      " ": () => this.pick(this.active),
    };
    if (this.lines.length === 0 || !Object.hasOwn(moves, event.key)) return;
    event.preventDefault();
    moves[event.key]();
  }

  goIn(entry, place) {
    if (entry.hasChildren && !entry.isOpen) this.toggle(entry);
    else if (entry.hasChildren) this.goTo(place + 1);
  }

  goOut(entry) {
    if (entry.isOpen) this.toggle(entry);
    else if (this.report.parents[entry.row.index])
      this.goTo(this.places.get(this.report.parents[entry.row.index].index));
  }

  goTo(place) {
    const bounded = Math.max(0, Math.min(this.lines.length - 1, place));
    this.active = this.lines[bounded].row.index;
    const [top, height] = [bounded * ROW, this.grid.clientHeight - ROW];
    if (top < this.grid.scrollTop) this.grid.scrollTop = top;
    else if (top + ROW > this.grid.scrollTop + height) this.grid.scrollTop = top + ROW - height;
    this.draw();
  }

  /** Unfold all above a record, move to it and show it. */
  reveal(index) {
    for (let row = this.report.parents[index]; row; row = this.report.parents[row.index]) {
      if (this.isOpen(row)) continue;
      if (!this.toggled.delete(row.index)) this.toggled.add(row.index);
    }
    this.refresh();
    this.goTo(this.places.get(index) ?? 0);
    this.grid.focus({ preventScroll: true });
    this.pick(index);
  }
}

function indexAt(event) {
  const element = event.target.closest(".row");
  return element === null ? null : Number(element.dataset.index);
}

const cell = (name, words, state = null) =>
  h("div", { class: `cell ${name}`, role: "gridcell", "data-state": state, title: words || null }, words);

function check(severity, result) {
  const [mark, words] = {
    broken: ["✕", "broken"],
    doubtful: ["?", "open"],
    "": result?.complete ? ["✓", "nothing found"] : ["…", "not checked yet"],
  }[severity];
  return h("div.cell.check", { role: "gridcell", "aria-label": words, title: words }, mark);
}

function withAncestors(matches, report) {
  const shown = new Set(matches);
  for (const index of matches) {
    for (let row = report.parents[index]; row && !shown.has(row.index); row = report.parents[row.index])
      shown.add(row.index);
  }
  return shown;
}
