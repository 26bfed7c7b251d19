// The report: all that the page knows of its records, in the shapes that its parts draw. It knows no document.

/** What can be filtered by, and how a filter is called. */
export const FACETS = {
  agent: "Agent",
  domain: "Domain",
  type: "Type",
  status: "Status",
  authority: "Authority",
  model: "Model",
};

export class Report {
  /** @param {object} manifest what the file says about itself */
  constructor(manifest) {
    this.manifest = manifest;
    this.rows = [];
    this.result = null;
    this.isLoaded = false;
    this.findingsByIndex = new Map();
    this.rebuild();
  }

  setResult(result) {
    this.result = result;
    this.findingsByIndex = new Map();
    for (const finding of result.findings) {
      if (finding.index === null) continue;
      if (!this.findingsByIndex.has(finding.index)) this.findingsByIndex.set(finding.index, []);
      this.findingsByIndex.get(finding.index).push(finding);
    }
  }

  /** The worst that was found at a record: "broken", "doubtful" or "". */
  severityOf(index) {
    const found = this.findingsByIndex.get(index) ?? [];
    if (found.some((finding) => finding.severity === "broken")) return "broken";
    return found.length > 0 ? "doubtful" : "";
  }

  /** Hang every record under its parent; what has none here, or hangs in a circle, stands at the root. */
  rebuild() {
    const byId = new Map();
    for (const row of this.rows) if (row.id && !byId.has(row.id)) byId.set(row.id, row);
    this.parents = this.rows.map((row) => (row.parent && byId.get(row.parent)) || null);
    this.children = this.rows.map(() => []);
    this.roots = [];
    for (const row of this.rows) this.siblings(row).push(row);
    this.cutCircles();
    for (const siblings of [this.roots, ...this.children]) siblings.sort(byStart);
  }

  siblings(row) {
    const parent = this.parents[row.index];
    return parent === null ? this.roots : this.children[parent.index];
  }

  cutCircles() {
    const reached = new Uint8Array(this.rows.length);
    const reach = (row) => {
      const waiting = [row];
      while (waiting.length > 0) {
        const next = waiting.pop();
        reached[next.index] = 1;
        for (const child of this.children[next.index]) if (!reached[child.index]) waiting.push(child);
      }
    };
    for (const root of this.roots) reach(root);
    for (const row of this.rows) {
      if (reached[row.index]) continue;
      const siblings = this.siblings(row);
      siblings.splice(siblings.indexOf(row), 1);
      this.parents[row.index] = null;
      this.roots.push(row);
      reach(row);
    }
  }

  /** The values of a facet with how often each occurs, the most frequent first. */
  values(facet) {
    const counts = new Map();
    for (const row of this.rows) if (row[facet]) counts.set(row[facet], (counts.get(row[facet]) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  }
}

const byStart = (a, b) => (a.started ?? Infinity) - (b.started ?? Infinity) || a.index - b.index;

/**
 * The lines of the tree from top to bottom.
 *
 * @param {Report} report
 * @param {(row: object) => boolean} isOpen whether the children of a row are shown
 * @param {Set<number>|null} shown indexes of the rows to show; null shows all
 * @returns {{row: object, level: number, place: number, size: number, hasChildren: boolean, isOpen: boolean}[]}
 */
export function linesOf(report, isOpen, shown = null) {
  const lines = [];
  const visible = (rows) => (shown === null ? rows : rows.filter((row) => shown.has(row.index)));
  const waiting = [];
  const put = (rows, level) => {
    for (let index = rows.length - 1; index >= 0; index -= 1) {
      waiting.push({ row: rows[index], level, place: index + 1, size: rows.length });
    }
  };
  put(visible(report.roots), 1);
  while (waiting.length > 0) {
    const line = waiting.pop();
    const below = visible(report.children[line.row.index]);
    line.hasChildren = below.length > 0;
    line.isOpen = line.hasChildren && isOpen(line.row);
    lines.push(line);
    if (line.isOpen) put(below, line.level + 1);
  }
  return lines;
}
