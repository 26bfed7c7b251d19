// The verdict: what was checked, how it came out, and what could not be checked at all.

import { byId, counted, h, line } from "./dom.js";
import { isKeyText } from "./keys.js";

const MARKS = { whole: "✓", broken: "✕", open: "?", working: "…" };

/** Weigh a finished result as `capsuled verify` does, whose rule is in `capsule_sdk/evidence/verifying/verify.py`. */
export function verdictOf(report, keys) {
  const here = report.rows.length;
  const broken = report.result.findings.filter(({ severity }) => severity === "broken").length;
  const doubtful = report.result.findings.length - broken;
  if (broken > 0) return brokenVerdict(report, broken, doubtful);
  const { verdict, title, text } = here === 0 ? NOTHING : intactVerdict(report, keys);
  if (doubtful === 0) return { verdict, title, text };
  const points = counted(doubtful, "open point");
  return { verdict, title: `${title}; ${points}`, text: `${text} What is open is listed below.` };
}

const NOTHING = { verdict: "open", title: "Nothing to check", text: "The file holds no capsules." };

/** What to say where nothing is broken: that it is whole, if it was checked with a key that the reader vouches for. */
function intactVerdict(report, keys) {
  const here = report.rows.length;
  if (keys.length === 0) return unsignedVerdict(here);
  const held = `${counted(here, "capsule")} ${here === 1 ? "hashes" : "hash"} to what was sealed, ${order(report)}, and every signature fits`;
  if (keys.every((key) => key.isEmbedded)) return embeddedVerdict(held, keys.length);
  return {
    verdict: "whole",
    title: isSelection(report)
      ? "A selection: every capsule in it is as it was sealed"
      : "Whole: every capsule is as it was sealed",
    text: `${held} ${oneOf(keys.length, "the key", "keys")} below.${end(report)}`,
  };
}

/** A file that agrees with itself: whoever made it may have made the key too. */
function embeddedVerdict(held, keys) {
  const whose =
    keys === 1
      ? "Whether it is the signer's key is still open: compare it with the one that the signer gave you another way, and paste that one below."
      : "Whether they are the signer's keys is still open: compare them with those that the signer gave you another way, and paste those below.";
  return {
    verdict: "open",
    title: `Consistent in itself: every capsule fits ${oneOf(keys, "the key", "keys")} that came with this file`,
    text: `${held} ${keys === 1 ? "that key" : "one of those keys"}. ${whose}`,
  };
}

const oneOf = (count, one, many) => (count === 1 ? one : `one of the ${count} ${many}`);
const order = (report) =>
  isSelection(report) ? "neighbours in the chain are linked" : "numbers and links have no gap";
/** A checkpoint that came with the file does not count: whoever made the file may have made it too. */
const end = (report) =>
  isSelection(report) ? "" : " Whether the end was cut off cannot be told without a checkpoint that was kept elsewhere.";

function brokenVerdict(report, broken, doubtful) {
  const records = new Set(report.result.findings.filter((f) => f.severity === "broken").map((f) => f.index));
  return {
    verdict: "broken",
    title: `Broken: ${counted(broken, "finding")}`,
    text: `This is not what was sealed. ${counted(records.size, "place")} in the chain ${records.size === 1 ? "does" : "do"} not hold${doubtful ? `, and ${counted(doubtful, "point")} ${doubtful === 1 ? "is" : "are"} open` : ""}; each is listed below.`,
  };
}

function unsignedVerdict(here) {
  return {
    verdict: "open",
    title: "Could not check everything: no key",
    text: `Nothing is broken in ${counted(here, "capsule")}, but the signatures were not checked. Without a key, anybody could have made this file. Paste the public key below.`,
  };
}

const isSelection = (report) => report.manifest.selection !== null;
/** Whether whole tasks are claimed to be here: a chain, or one task and all that belongs to it. */
const isWhole = ({ manifest: { selection } }) => selection === null || Object.keys(selection).join() === "task";
const hasCheckpoint = ({ result }) => result.checkpoints.some((checkpoint) => checkpoint?.compared);

/** What to say where it is not certain which data the file holds. */
export const NOT_AS_WRITTEN = {
  verdict: "broken",
  title: "Broken: this file was tampered with",
  text: "What it holds as its data does not stand where it was written, or stands there twice. Nothing of it is shown, since other programs may find other capsules in this file.",
};

/** What to say where the page itself failed. */
export function failure(message) {
  return {
    verdict: "open",
    title: "Could not check: this page failed",
    text: `${line(message, 200)}. It may need a newer browser. To check without it, run: capsuled verify FILE.html`,
  };
}

/** Show a verdict, or how far the work has come. */
export function showVerdict({ verdict, title, text }, progress = null) {
  byId("verdict").dataset.verdict = verdict;
  byId("verdict-mark").textContent = MARKS[verdict];
  byId("verdict-title").textContent = title;
  byId("verdict-text").textContent = text;
  byId("progress").hidden = progress === null;
  if (progress !== null) byId("progress").value = progress;
}

/** Show what was checked, and what was not. */
export function showChecks(report, keys) {
  byId("checks").replaceChildren(
    h("div.checked", {}, h("h3", {}, "What was checked"), h("ul", {}, ...checked(report, keys).map(item))),
    h(
      "div.unchecked",
      {},
      h("h3", {}, "What was not, or cannot be"),
      h("ul", {}, ...unchecked(report, keys).map(item)),
    ),
  );
}

const item = (text) => h("li", {}, text);

function checked(report, keys) {
  const { hashed, linked, checkpoints, complete } = report.result;
  const lines = [
    `The content of ${counted(hashed.filter(Boolean).length, "capsule")} against the hash in the seal (SHA3-256)`,
  ];
  const links = linked.filter(Boolean).length;
  lines.push(
    isSelection(report)
      ? `${counted(links, "link")} between capsules that are neighbours in the chain`
      : `${counted(links, "link")}: whether each capsule names the hash of the one before, and numbers run from 0 without a gap`,
  );
  if (keys.length > 0 && complete)
    lines.push(`Every signature (Ed25519) against ${keys.length === 1 ? "one key" : `${keys.length} keys`}`);
  if (isWhole(report)) lines.push("What each task announced about its children: how many, and which");
  for (const checkpoint of checkpoints) if (checkpoint?.compared) lines.push(checkpointLine(report, checkpoint));
  return lines;
}

function checkpointLine(report, { size, time, origin, signedBy }) {
  const behind = report.rows.length - size;
  const later = !isSelection(report) && behind > 0 ? `; ${counted(behind, "capsule")} came later` : "";
  return `A checkpoint that came with this file, with which it agrees${time ? `: of ${line(time, 40)}` : ""} by ${line(origin, 24)}, over the first ${counted(size, "capsule")}${signedBy < 0 ? " (its signature is not confirmed)" : ""}${later}`;
}

function unchecked(report, keys) {
  const lines = [];
  const { complete, postQuantum } = report.result;
  if (keys.length === 0) lines.push("Signatures: there is no key to check them with");
  else if (!complete) lines.push("Signatures: their check is still running");
  else if (keys.some((key) => key.isEmbedded)) {
    lines.push(
      "Whose keys these are: they came with the file, and prove only that it agrees with itself. Compare them with keys that you got another way",
    );
  }
  const aside = report.manifest.keys.filter((key) => !isKeyText(key.public_key)).length;
  if (aside > 0) lines.push(`${counted(aside, "key")} of the file, which no signature can be checked with`);
  if (postQuantum > 0)
    lines.push(
      `What ${counted(postQuantum, "capsule")} ${postQuantum === 1 ? "carries" : "carry"} in the place of a second, post-quantum signature: whether it is one was not looked at`,
    );
  if (isSelection(report))
    lines.push("What stands between the capsules shown: this is a selection, and gaps are no errors");
  if (!isWhole(report))
    lines.push(
      "What belongs to the tasks shown, and the tasks that capsules shown belong to: they may not be part of the selection",
    );
  const strayed = report.result.checkpoints.filter((checkpoint) => checkpoint?.compared === false).length;
  if (strayed > 0) lines.push(`${counted(strayed, "checkpoint")} of capsules that this selection does not hold`);
  if (!hasCheckpoint(report)) {
    lines.push("Whether the end was cut off: without a checkpoint, a chain that was shortened at its end looks whole");
  } else if (!isSelection(report)) {
    lines.push(
      "Whether the end was cut off, or all was written anew: whoever made this file may have made its checkpoint too. Hold it against one that was kept elsewhere, with: capsuled verify FILE.html --against CHECKPOINT",
    );
  }
  lines.push(
    "When each capsule was sealed: that time (signed_at) stands outside the hash, and nothing protects it",
    "Whether the content was true when it was sealed, and whether the clock was right",
  );
  return lines;
}
