// The engine: holds the records of the file, checks them, and answers the page. It knows no document, so that it can run in
// a worker; where a browser grants none it runs beside the page, in slices that leave room for it.

import { Chain } from "./chain.js";
import { firstHash, noteSigner, parseCheckpoint } from "./checkpoints.js";
import { continued, promptHash } from "./conversation.js";
import { factsOf, searchable } from "./facts.js";
import { NOWHERE, SENTENCES, finding } from "./findings.js";
import { parse } from "./json.js";
import { signer } from "./seals.js";

/** Marks in `signers` where there is no key to name. */
export const NOT_CHECKED = -1;
export const FITS_NONE = -2;
export const UNSIGNED = -3;

export class Engine {
  /**
   * @param {(message: object) => void} post takes what the page is to know
   * @param {number} slice milliseconds that the engine works before it lets others work
   */
  constructor(post, slice) {
    this.post = post;
    this.slice = slice;
    this.texts = [];
    this.searchTexts = [];
    this.read = 0; // how much of the data was unpacked, from 0 to 1
    this.run = 0;
  }

  /** Read all records and check what needs no key. */
  async load({ data, selection, checkpoints }) {
    this.chain = new Chain(selection);
    this.checkpoints = checkpoints;
    const clock = new Slices(this.slice);
    let rows = [];
    let damage = null;
    try {
      for await (const line of lines(data, (part) => (this.read = part))) {
        rows.push(this.take(line));
        if (clock.isOver()) {
          this.post({ op: "rows", rows, read: this.read });
          rows = [];
          await clock.pause();
        }
      }
    } catch (error) {
      damage = error;
    }
    this.post({ op: "rows", rows, read: this.read });
    this.chain.end();
    if (damage !== null) {
      this.chain.findings.push(finding("malformed", NOWHERE, SENTENCES.damaged(damage.message, this.texts.length)));
    }
  }

  take(line) {
    const record = this.chain.add(line);
    const { index, sequence, id, parent } = this.chain.entries.at(-1);
    this.texts.push(line);
    this.searchTexts.push(record === null ? line.toLowerCase() : searchable(record));
    return { index, sequence, id, parent, ...(record === null ? NO_FACTS : factsOf(record)) };
  }

  /** Check signatures with these keys and post the whole result; a later call makes an earlier one stop. */
  async verify({ keys }) {
    const run = (this.run += 1);
    const signers = new Int16Array(this.texts.length).fill(NOT_CHECKED);
    const faults = [];
    this.report(signers, faults, keys, keys.length === 0);
    if (keys.length === 0) return;
    const clock = new Slices(this.slice);
    for (const entry of this.chain.entries) {
      if (entry.signature !== undefined) this.sign(entry, keys, signers, faults);
      if (clock.isOver()) {
        this.post({ op: "progress", done: entry.index + 1, total: this.texts.length });
        await clock.pause();
        if (run !== this.run) return;
      }
    }
    this.report(signers, faults, keys, true);
  }

  /** Note who signed an entry, and what is wrong with that. */
  sign(entry, keys, signers, faults) {
    const { place, fault } = signer(entry, keys);
    signers[entry.index] = place >= 0 ? place : fault === "signature_missing" ? UNSIGNED : FITS_NONE;
    if (fault !== null) faults.push(finding(fault, entry, FAULTS[fault](keys.length)));
  }

  report(signers, faults, keys, complete) {
    const found = [...this.chain.findings, ...faults];
    const checkpoints = this.checkpoints.map((note, place) => this.checkpoint(note, place + 1, keys, found));
    found.sort((a, b) => (a.index ?? Infinity) - (b.index ?? Infinity) || 0);
    this.post({
      op: "result",
      complete,
      findings: found,
      signers,
      hashed: Uint8Array.from(this.chain.entries, (entry) => entry.hashed),
      linked: Uint8Array.from(this.chain.entries, (entry) => entry.linked),
      postQuantum: this.chain.entries.filter((entry) => entry.postQuantum).length,
      checkpoints,
    });
  }

  checkpoint(note, place, keys, found) {
    const checkpoint = parseCheckpoint(note);
    if (checkpoint === null) {
      found.push(finding("checkpoint_invalid", NOWHERE, SENTENCES.note(place)));
      return null;
    }
    const { size, hash, origin, time } = checkpoint;
    const signedBy = keys.length === 0 ? NOT_CHECKED : noteSigner(checkpoint, keys);
    if (keys.length > 0 && signedBy < 0) {
      found.push(finding("checkpoint_invalid", NOWHERE, SENTENCES.noteSignature(place, keys.length)));
      return null;
    }
    const isWhole = this.chain.selection === null;
    const [first, entry] = [this.chain.bySequence.get(0), this.chain.bySequence.get(size - 1)];
    const isForeign = first !== undefined && ![null, first.hash].includes(firstHash(origin));
    if (isForeign && isWhole) found.push(finding("checkpoint_mismatch", NOWHERE, SENTENCES.otherBeginning(place)));
    else if (entry === undefined && isWhole) {
      found.push(finding("checkpoint_truncated", NOWHERE, SENTENCES.truncated(size, this.texts.length)));
    } else if (!isForeign && entry !== undefined && entry.hash !== hash) {
      found.push(finding("checkpoint_mismatch", entry, SENTENCES.otherChain(size)));
    }
    // Of a selection, what was not there to be compared was perhaps left out.
    return { size, origin, time, signedBy, compared: isWhole || (!isForeign && entry !== undefined) };
  }

  /** Post which records hold all words of a query. */
  search({ request, query }) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [];
    this.searchTexts.forEach((text, index) => {
      if (words.every((word) => text.includes(word))) found.push(index);
    });
    this.post({ op: "answer", request, answer: found });
  }

  /** Post the text of a record, exactly as it is in the file. */
  text({ request, index }) {
    this.post({ op: "answer", request, answer: this.texts[index] });
  }

  /** Post the text of a record, and of those that hold the beginning of its conversation, the newest first. */
  talk({ request, index }) {
    const earlier = [];
    const seen = new Set([index]);
    let next = continued(parsed(this.texts[index]));
    while (next !== null && earlier.length < MOST_EARLIER) {
      const place = this.holding(next);
      if (place === undefined || seen.has(place)) break;
      seen.add(place);
      earlier.push(this.texts[place]);
      next = continued(parsed(this.texts[place]));
    }
    this.post({ op: "answer", request, answer: { text: this.texts[index], earlier, missing: next?.id ?? null } });
  }

  /** The place of the record that is named; the hash of its prompt has to fit, too. */
  holding({ id, hash }) {
    if (this.places === undefined) {
      this.places = new Map();
      for (const entry of this.chain.entries) {
        const key = String(entry.id).toLowerCase();
        this.places.set(key, [...(this.places.get(key) ?? []), entry.index]);
      }
    }
    const places = this.places.get(id.toLowerCase()) ?? [];
    return places.find((place) => promptHash(parsed(this.texts[place])) === hash);
  }
}

const MOST_EARLIER = 500; // records that one conversation is followed through

/** A record as a map; an empty one where its text holds none. */
function parsed(text) {
  try {
    const record = parse(text);
    return record instanceof Map ? record : new Map();
  } catch {
    return new Map();
  }
}

const NO_FACTS = {
  kind: "unreadable",
  type: "",
  domain: "",
  agent: "",
  name: "(not readable)",
  words: "",
  model: "",
  status: "unknown",
  authority: "unknown",
  approver: "",
  started: null,
  duration: null,
  tokensIn: null,
  tokensOut: null,
  cost: "",
};

const FAULTS = {
  signature_missing: SENTENCES.unsigned,
  signature_invalid: SENTENCES.signature,
  signer_mismatch: SENTENCES.otherSigner,
  key_unknown: SENTENCES.unknownKey,
};

/** When to let others work. */
class Slices {
  constructor(length) {
    this.length = length;
    this.ends = performance.now() + length;
  }
  isOver() {
    return performance.now() >= this.ends;
  }
  async pause() {
    await new Promise((resolve) => setTimeout(resolve));
    this.ends = performance.now() + this.length;
  }
}

const LARGEST = 64 << 20; // characters that one record may have, as in the command
const TOO_LARGE = "it holds a record that is too large (more than 64 MiB), or one without end";

/** The lines of a text that was packed with gzip and written as base64; `tell` learns how much of that was read. */
async function* lines(base64, tell) {
  const reader = unpacked(base64, tell).getReader();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });
  let rest = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    const pieces = decoder.decode(value, { stream: !done }).split("\n");
    for (const piece of pieces.slice(0, -1)) {
      yield rest.join("") + piece;
      rest = [];
      size = 0;
    }
    if (pieces.at(-1) !== "") rest.push(pieces.at(-1));
    size += pieces.at(-1).length;
    if (size > LARGEST) throw new Error(TOO_LARGE);
    if (done) break;
  }
  if (rest.length > 0) throw new Error("the last record has no end");
}

const CHUNK = 1 << 13; // characters decoded at a time; a multiple of 4

function unpacked(base64, tell) {
  const clean = base64.replace(/[ \t\r\n\f]+/g, "");
  let at = 0;
  const packed = new ReadableStream({
    pull(controller) {
      if (at >= clean.length) return controller.close();
      const piece = decoded(clean.slice(at, at + CHUNK));
      at = Math.min(at + CHUNK, clean.length);
      tell(at / clean.length);
      return controller.enqueue(Uint8Array.from(piece, (char) => char.charCodeAt(0)));
    },
  });
  return packed.pipeThrough(new DecompressionStream("gzip"));
}

function decoded(base64) {
  try {
    return atob(base64);
  } catch {
    throw new Error("it is not base64");
  }
}
