// The chain: every check that needs no key. Records go in one by one, in the order of the file; findings come out.

import { isClaim, meets } from "./claim.js";
import { NOWHERE, SENTENCES, finding } from "./findings.js";
import { count, integer, section } from "./facts.js";
import { JsonError, byCodePoint, isNothing, parse } from "./json.js";
import { microseconds } from "./moments.js";
import { contentHash, isHash, sha3 } from "./seals.js";
import { isUuid, misfit } from "./shape.js";

/** What can be said of a link: nothing (the record before is not here), that it holds, that it is broken. */
export const UNCHECKED = 0;
export const HOLDS = 1;
export const BROKEN = 2;

export class Chain {
  /** @param {object|null} selection what the file says it selects; null means that it claims to be a whole chain */
  constructor(selection) {
    this.selection = selection;
    this.entries = [];
    this.findings = [];
    this.bySequence = new Map();
    this.byId = new Map();
    this.expected = 0;
    this.previous = null; // the record before, in the file
    this.claim = isClaim(selection) ? selection : null;
    if (this.claim !== selection) this.find("selection_incomplete", NOWHERE, SENTENCES.noSelection());
  }

  /** Check one record against all before it. Return what it parses to; null where it is not an object. */
  add(recordText) {
    const entry = {
      index: this.entries.length,
      sequence: null,
      id: "",
      parent: "",
      hashed: UNCHECKED,
      linked: UNCHECKED,
    };
    this.entries.push(entry);
    const record = this.object(entry, recordText);
    if (record === null) return null;
    readInto(entry, record);
    if (entry.repeated !== undefined) this.find("malformed", entry, SENTENCES.twice(entry.repeated));
    const fault = misfit(record);
    if (fault !== null) this.find("malformed", entry, SENTENCES.malformed(fault));
    if (!meets(this.claim, record)) this.find("selection_incomplete", entry, SENTENCES.notSelected());
    this.hash(entry, record);
    if (entry.sequence !== null) this.place(entry);
    if (entry.children?.holds === false) this.find("children_mismatch", entry, SENTENCES.contradiction());
    if (entry.endLost) this.find("end_lost", entry, SENTENCES.endLost());
    if (entry.lost > 0) this.find("records_lost", entry, SENTENCES.lost(entry.lost));
    this.once(entry);
    this.previous = entry;
    return record;
  }

  /** Check what can only be seen once all records are here: parents and children. */
  end() {
    const [children, orphans] = [new Map(), new Map()];
    const named = this.entries.filter((entry) => entry.id !== "");
    for (const entry of named) {
      if (!entry.parent) continue;
      if (!this.byId.has(entry.parent)) put(orphans, entry.parent, entry);
      else if (entry.counted) put(children, entry.parent, entry);
    }
    if (this.selection === null) this.orphans(orphans);
    if (this.selection === null || this.wholeTask() !== null) {
      const tasks = named.filter((entry) => entry.children?.holds);
      for (const entry of tasks) this.children(entry, children.get(entry.id) ?? []);
    }
    const task = this.wholeTask();
    const roots = named.filter((entry) => !this.byId.has(entry.parent));
    if (task !== null && (roots.length !== 1 || roots[0].id !== task)) {
      this.find("selection_incomplete", NOWHERE, SENTENCES.selection(task));
    }
  }

  object(entry, recordText) {
    try {
      const record = parse(recordText, (name) => (entry.repeated = name));
      if (record instanceof Map) return record;
      throw new JsonError("it is not a JSON object");
    } catch (error) {
      if (!(error instanceof JsonError)) throw error;
      this.find("malformed", entry, SENTENCES.malformed(error.message));
      this.previous = null;
      return null;
    }
  }

  hash(entry, record) {
    try {
      entry.hashed = contentHash(record) === entry.hash ? HOLDS : BROKEN;
      if (entry.hashed === BROKEN)
        this.find("hash_mismatch", entry, isHash(entry.hash) ? SENTENCES.hash() : SENTENCES.noHash());
    } catch (error) {
      if (!(error instanceof JsonError)) throw error;
      entry.hashed = UNCHECKED;
      this.find("malformed", entry, SENTENCES.malformed(error.message));
    }
  }

  /** Check where a record stands: its number, what it continues, and when it was sealed. */
  place(entry) {
    const { sequence } = entry;
    if (sequence < this.expected) this.find("sequence_repeated", entry, SENTENCES.repeated(this.expected));
    else if (sequence > this.expected && this.selection === null) {
      const sentence = this.expected === 0 ? SENTENCES.begins(sequence) : SENTENCES.gap(this.expected, sequence - 1);
      this.find("sequence_gap", entry, sentence);
    }
    this.expected = Math.max(this.expected, sequence + 1);
    if (!this.bySequence.has(sequence)) this.bySequence.set(sequence, entry);
    const before = this.previous?.sequence === sequence - 1 ? this.previous : null;
    this.link(entry, before);
    if (entry.signedAt !== null && entry.startedAt !== null && entry.signedAt < entry.startedAt) {
      this.find("time_backwards", entry, SENTENCES.timeOfStart());
    }
    if (before !== null && entry.signedAt !== null && before.signedAt !== null && entry.signedAt < before.signedAt) {
      this.find("time_backwards", entry, SENTENCES.time());
    }
  }

  /** Compare what a record continues with the record before it; where that is not here, which was said, nothing can be. */
  link(entry, before) {
    if (entry.sequence === 0) entry.linked = entry.previous === null ? HOLDS : BROKEN;
    else if (before !== null) entry.linked = entry.previous === before.hash ? HOLDS : BROKEN;
    if (entry.linked !== BROKEN) return;
    const named = entry.previous === null ? SENTENCES.noLink() : SENTENCES.link(entry.sequence - 1);
    this.find("link_broken", entry, entry.sequence === 0 ? SENTENCES.firstLink() : named);
  }

  once(entry) {
    if (entry.id === "") return;
    const other = this.byId.get(entry.id);
    if (other === undefined) this.byId.set(entry.id, entry);
    else this.find("id_repeated", entry, SENTENCES.id(other.sequence));
  }

  orphans(orphans) {
    for (const [task, entries] of orphans)
      this.find("parent_missing", entries[0], SENTENCES.parent(task, entries.length - 1));
  }

  /** Compare the children that are here with what their task says; those that had ended stand before it. */
  children(entry, found) {
    const { started, ended, digest } = entry.children;
    const here = new Set(found.map((child) => child.id));
    const before = new Set(found.filter((child) => child.index < entry.index).map((child) => child.id));
    const missing = started - here.size;
    if (missing < 0) this.find("children_unannounced", entry, SENTENCES.unannounced(here.size, started));
    else if (missing > 0 && before.size < ended) this.find("children_missing", entry, SENTENCES.missing(missing, ended));
    else if (missing > 0) this.find("children_open", entry, SENTENCES.notEnded(missing));
    else if (digestOf(here) !== digest) this.find("children_mismatch", entry, SENTENCES.children());
  }

  /** The task of which a selection claims to hold all there is. */
  wholeTask() {
    const [[name, task] = [], ...others] = Object.entries(this.claim ?? {});
    return name === "task" && others.length === 0 ? task.toLowerCase() : null;
  }

  find(code, entry, sentence) {
    this.findings.push(finding(code, entry, sentence));
  }
}

/** The commitment of a task to its children: SHA3-256 over their sorted ids, one a line. */
export function digestOf(ids) {
  return sha3(
    [...ids]
      .sort(byCodePoint)
      .map((id) => `${id}\n`)
      .join(""),
  );
}

function put(groups, key, value) {
  if (!groups.has(key)) groups.set(key, []);
  groups.get(key).push(value);
}

/** Read what the whole chain is judged by. What is of the wrong kind counts as not there. */
function readInto(entry, record) {
  const metrics = section(section(record, "outcome"), "metrics");
  entry.id = uuid(record.get("id"));
  entry.sequence = counter(record.get("sequence"));
  entry.hash = textIn(record, "hash");
  entry.signature = record.get("signature") ?? null;
  entry.postQuantum = !isNothing(record.get("signature_pq"));
  entry.signedBy = record.get("signed_by") ?? null;
  entry.signedAt = microseconds(record.get("signed_at"));
  entry.startedAt = microseconds(section(record, "trigger").get("timestamp"));
  entry.parent = uuid(record.get("parent_id"));
  entry.previous = record.get("previous_hash") ?? null;
  entry.counted = section(section(record, "context"), "environment").get("counted_by_parent") !== false;
  entry.children = commitment(section(metrics, "children"));
  entry.endLost = metrics.get("ended") === "lost";
  entry.lost = record.get("type") === "system" ? Number(count(metrics.get("records_lost"))) : 0;
}

/** A text, or "" for whatever else stands there. */
const textIn = (record, name) => (typeof record.get(name) === "string" ? record.get(name) : "");

/** An id as others may spell it, or "". */
const uuid = (value) => (typeof value === "string" && isUuid(value.toLowerCase()) ? value.toLowerCase() : "");

function counter(value) {
  const found = integer(value);
  return found !== null && found >= 0 ? found : null;
}

/** What our own tasks say of their children; other programs may mean something else by that name. */
function commitment(said) {
  if (said.size !== 3 || !["started", "ended", "digest"].every((key) => said.has(key))) return null;
  const [started, ended, digest] = [counter(said.get("started")), counter(said.get("ended")), said.get("digest")];
  return { started, ended, digest, holds: started !== null && ended !== null && ended <= started && isHash(digest) };
}
