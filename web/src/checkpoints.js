// Checkpoints: signed notes (C2SP signed-note, tlog-checkpoint) that say how long a chain was, and what its last hash was.

import { bytesToHex, fits, noteKeyId, utf8ToBytes } from "./seals.js";

const SIGNATURE = /^— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/;
const KEY_ID_BYTES = 4;

/**
 * Take a signed note apart.
 *
 * @returns {{origin: string, size: number, hash: string, time: string|null, body: string, signatures: object[]} | null}
 *   `body` is what is signed; null where the text is no checkpoint.
 */
export function parseCheckpoint(note) {
  if (typeof note !== "string") return null;
  const blank = note.lastIndexOf("\n\n");
  if (blank < 0) return null;
  const body = note.slice(0, blank + 1);
  const [origin, size, head, ...extensions] = body.split("\n");
  const hash = decoded(head ?? "");
  const signatures = note
    .slice(blank + 2)
    .split("\n")
    .filter(Boolean)
    .map(parseSignature);
  if (!origin || !/^(0|[1-9][0-9]{0,15})$/.test(size) || hash?.length !== 32) return null;
  if (signatures.length === 0 || signatures.includes(null)) return null;
  const time = extensions.find((line) => line.startsWith("time "))?.slice(5) ?? null;
  return { origin, size: Number(size), hash: bytesToHex(hash), time, body, signatures };
}

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

function decoded(base64) {
  try {
    return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  } catch {
    return null;
  }
}
