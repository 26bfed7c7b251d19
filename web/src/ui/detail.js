// The detail: one capsule with its checks, its six sections, its seal and its exact text.

import { BROKEN, HOLDS } from "../chain.js";
import { conversationOf, withoutConversation } from "../conversation.js";
import { HEADINGS } from "../findings.js";
import { FITS_NONE, UNSIGNED } from "../engine.js";
import { JsonError, parse } from "../json.js";
import { SEAL_FIELDS } from "../seals.js";
import { conversationView } from "./conversation.js";
import { byId, h, line, number, visible } from "./dom.js";
import { valueOf } from "./values.js";
import { kindName, label, statusMark, titleOf } from "./words.js";

const SECTIONS = [
  ["trigger", "What started it"],
  ["context", "Where it ran"],
  ["reasoning", "What was considered"],
  ["authority", "Who allowed it"],
  ["execution", "What was done"],
  ["outcome", "What came of it"],
];
const IN_SECTIONS = new Set(SECTIONS.map(([name]) => name));
const APPROVAL =
  "The recording program asserted this approval. The seal proves that it did, not that a person approved.";

/**
 * Show a capsule.
 *
 * @param {object[]} keys those that its signature was checked with
 * @param {{text: string, earlier: string[], missing: string|null}} said its text, and what the engine found of its conversation
 */
export function showDetail(report, keys, row, said, close) {
  const record = parsed(said.text);
  const place = byId("detail");
  place.hidden = false;
  byId("browser").classList.add("with-detail");
  place.replaceChildren(
    h(
      "header",
      {},
      h("p.kicker", {}, `${kindName(row.kind)} · number ${row.sequence ?? "unknown"}`),
      h("h3", { id: "detail-title" }, line(titleOf(row), 200)),
      h("p.status", { "data-state": row.status }, `${statusMark(row.status)} ${line(row.status, 40)}`),
      h("button.quiet.close", { type: "button", onclick: close, "aria-keyshortcuts": "Escape" }, "Close"),
    ),
    checksOf(report, keys, row),
    ...(record instanceof Map
      ? partsOf(record, row, said)
      : [h("p", {}, "This record is not a capsule; its text stands below.")]),
    rawOf(said.text),
  );
  place.scrollTop = 0;
}

export function hideDetail() {
  byId("detail").hidden = true;
  byId("browser").classList.remove("with-detail");
}

function parsed(text) {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof JsonError) return null;
    throw error;
  }
}

/** The conversation, where there is one, and the sections without what it shows. */
function partsOf(record, row, { earlier, missing }) {
  const before = earlier.map(parsed).filter((one) => one instanceof Map);
  const talk = row.kind === "call" ? conversationOf(record, before, missing) : null;
  if (talk === null) return sectionsOf(record);
  return [conversationView(talk), ...sectionsOf(withoutConversation(record, talk))];
}

function checksOf(report, keys, row) {
  const found = report.findingsByIndex.get(row.index) ?? [];
  const strayed = row.parent && report.parents[row.index] === null;
  const states = statesOf(report, keys, row.index, found);
  return h(
    "section.checks",
    { "aria-label": "Checks of this capsule" },
    h("ul", {}, ...states.map(([state, words]) => h("li", { "data-check": state }, words))),
    strayed
      ? h(
          "p.help",
          {},
          `It belongs to task ${line(row.parent, 60)}, which is not here: still running, cut off, or not part of the selection.`,
        )
      : null,
    ...found.map((finding) =>
      h(
        "p.finding",
        { "data-severity": finding.severity },
        h("strong", {}, HEADINGS[finding.code]),
        ` (${finding.code}): `,
        line(finding.sentence, 600),
      ),
    ),
  );
}

function statesOf({ result }, keys, index, found) {
  if (result === null) return [["none", "Not checked yet"]];
  const name = (state, holds, broken, none) => [
    { [HOLDS]: "holds", [BROKEN]: "broken" }[state] ?? "none",
    { [HOLDS]: holds, [BROKEN]: broken }[state] ?? none,
  ];
  return [
    name(
      result.hashed[index],
      "Content is what was sealed",
      "Content is not what was sealed",
      "Content could not be hashed",
    ),
    name(
      result.linked[index],
      "Linked to the capsule before",
      "Not linked to the capsule before",
      "Link not compared: the capsule before is not here",
    ),
    signatureState(result.signers[index], keys, found),
  ];
}

function signatureState(signer, keys, found) {
  if (signer === UNSIGNED) return ["broken", "Not signed"];
  if (signer === FITS_NONE) return ["broken", "Signature fits none of the keys"];
  const key = keys[signer];
  if (key === undefined) return ["none", "Signature not checked"];
  const by = `Signed by ${key.name} (${key.public_key.slice(0, 16)}…)`;
  const isNamed = !found.some(({ code }) => code === "signer_mismatch");
  return isNamed ? ["holds", by] : ["broken", `${by}, but it names another key`];
}

function sectionsOf(record) {
  const others = [...record.keys()].filter((key) => !IN_SECTIONS.has(key) && !SEAL_FIELDS.has(key));
  return [
    ...SECTIONS.map(([name, words]) => sectionOf(label(name), words, record.get(name), noteOn(name, record.get(name)))),
    sectionOf("Capsule", "Its place in the chain", pick(record, others)),
    sectionOf(
      "Seal",
      "What protects it",
      pick(record, SEAL_FIELDS),
      "signed_by is a hint that nothing protects; which key signed is what the check above says.",
    ),
  ];
}

const pick = (record, keys) => new Map([...keys].filter((key) => record.has(key)).map((key) => [key, record.get(key)]));

function noteOn(name, value) {
  const isApproval = name === "authority" && value instanceof Map && value.get("type") === "human_approved";
  return isApproval ? APPROVAL : null;
}

function sectionOf(name, words, value, note = null) {
  if (value === undefined) return h("section.part", {}, h("h4", {}, name, " ", h("small", {}, "missing")));
  return h(
    "section.part",
    {},
    h("h4", {}, name, " ", h("small", {}, words)),
    valueOf(value),
    note && h("p.help", {}, note),
  );
}

const RAW = 20_000; // characters shown before one asks for all

function rawOf(text) {
  const pre = h("pre", { tabindex: "0", "aria-label": "The record as it is in the file" }, visible(text.slice(0, RAW)));
  const all = h("button.quiet", { type: "button" }, `Show all ${number(text.length)} characters`);
  all.hidden = text.length <= RAW;
  all.addEventListener("click", () => {
    pre.textContent = visible(text);
    all.hidden = true;
  });
  const said = h("span", { role: "status" });
  const copy = h(
    "button.quiet",
    { type: "button", onclick: async () => (said.textContent = (await copied(text)) ? "Copied." : "Could not copy.") },
    "Copy exact text",
  );
  return h("details.raw", {}, h("summary", {}, "Raw record"), h("div.row", {}, copy, all, said), pre);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
