// Checkpoints: signed notes (C2SP signed-note, tlog-checkpoint) that say how long a chain was, and what its last hash was.

import { microseconds } from "./moments.js";
import { bytesToHex, fits, noteKeyId, utf8ToBytes } from "./seals.js";

const SIZE = /^[1-9][0-9]{0,17}$/;
const TIME = /^time [0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z$/;
const SIGNATURE = /^— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/;
const KEY_ID_BYTES = 4;
const LARGEST = 1 << 20; // bytes of a note
const ORIGIN = /^capsule-chain\/([0-9a-f]{64})$/; // with the hash of the first record

/**
 * Take a signed note apart, as strictly as `capsule_sdk/chain/checkpoint.py` does.
 *
 * @returns {{origin: string, size: number, hash: string, time: string, body: string, signatures: object[]} | null}
 *   `body` is what is signed; null where the text is not a checkpoint.
 */
export function parseCheckpoint(note) {
  const blank = note.lastIndexOf("\n\n");
  if (blank < 0 || !note.endsWith("\n") || !isText(note)) return null;
  const signatures = note
    .slice(blank + 2, -1)
    .split("\n")
    .map(parseSignature);
  const lines = note.slice(0, blank).split("\n");
  const [origin, size, head, ...extensions] = lines;
  const hash = decoded(head ?? "");
  const times = extensions.filter((line) => line.startsWith("time "));
  if (lines.includes("") || !SIZE.test(size) || hash?.length !== 32 || signatures.includes(null)) return null;
  if (times.length !== 1 || !TIME.test(times[0]) || microseconds(times[0].slice(5)) === null) return null;
  const body = note.slice(0, blank + 1);
  return { origin, size: Number(size), hash: bytesToHex(hash), time: times[0].slice(5), body, signatures };
}

/** The hash of the first record of the chain that an origin names; null where it does not hold one. */
export function firstHash(origin) {
  return ORIGIN.exec(origin)?.[1] ?? null;
}

const isText = (note) => note.isWellFormed() && !/[\0-\t\v-\x1f]/.test(note) && utf8ToBytes(note).length <= LARGEST;

/**
 * Return which of the keys signed the note under the name of its chain, or -1.
 *
 * A signature that names one of the keys and does not fit spoils the note; those of others are passed over.
 */
export function noteSigner({ origin, body, signatures }, keys) {
  const message = utf8ToBytes(body);
  const signers = [];
  for (const [index, { public_key }] of keys.entries()) {
    const id = noteKeyId(origin, public_key);
    for (const one of signatures.filter((signature) => signature.name === origin && signature.id === id)) {
      if (!fits(one.signature, message, public_key)) return -1;
      signers.push(index);
    }
  }
  return signers[0] ?? -1;
}

function parseSignature(line) {
  const match = SIGNATURE.exec(line);
  const bytes = match && decoded(match[2]);
  if (!bytes || bytes.length <= KEY_ID_BYTES) return null;
  return { name: match[1], id: bytesToHex(bytes.subarray(0, KEY_ID_BYTES)), signature: bytes.subarray(KEY_ID_BYTES) };
}

/** Decode what is written in the one way that an encoder writes it (RFC 4648, 3.5 and 4); null for all else. */
function decoded(base64) {
  try {
    const raw = atob(base64);
    return btoa(raw) === base64 ? Uint8Array.from(raw, (char) => char.charCodeAt(0)) : null;
  } catch {
    return null;
  }
}
