// Seals and signatures: SHA3-256 of the content, Ed25519 over the hash's 64 hexadecimal digits (CPS section 3).

import { ed25519 } from "@noble/curves/ed25519.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { sha3_256 } from "@noble/hashes/sha3.js";
import { bytesToHex, hexToBytes, utf8ToBytes } from "@noble/hashes/utils.js";

import { JsonError, canonical, isDeeper, isNothing } from "./json.js";

/** What stands beside the content in a record, outside the hash. */
export const SEAL_FIELDS = new Set(["hash", "signature", "signature_pq", "signed_at", "signed_by"]);

export const sha3 = (text) => bytesToHex(sha3_256(utf8ToBytes(text)));

const DEEPEST = 254; // as in the command: not every program that reads JSON goes deeper

/** The hash of what a record says, which is all of it but its seal. */
export function contentHash(record) {
  if (isDeeper(record, DEEPEST, SEAL_FIELDS)) throw new JsonError(`nested more than ${DEEPEST} deep`);
  return sha3(canonical(record, SEAL_FIELDS, true));
}

export const isHash = (value) => typeof value === "string" && /^[0-9a-f]{64}$/.test(value);

/** Whether a text is the hexadecimal form of a point that can be a public key. */
export function isPublicKey(text) {
  if (typeof text !== "string" || !/^[0-9a-fA-F]{64}$/.test(text)) return false;
  try {
    return !ed25519.Point.fromBytes(hexToBytes(text)).isSmallOrder();
  } catch {
    return false;
  }
}

/** Verify an Ed25519 signature strictly (RFC 8032). What is malformed does not fit; nothing is thrown. */
export function fits(signature, message, publicKey) {
  try {
    return ed25519.verify(signature, message, hexToBytes(publicKey), { zip215: false });
  } catch {
    return false;
  }
}

const SIGNATURE = /^[ \t\n\v\f\r]*(?:[0-9a-fA-F]{2}[ \t\n\v\f\r]*){64}$/;

/** The bytes of a signature, spelled as Python's `bytes.fromhex` takes it: white space may stand between two bytes. */
function signatureBytes(text) {
  return typeof text === "string" && SIGNATURE.test(text) ? hexToBytes(text.replace(/[ \t\n\v\f\r]/g, "")) : null;
}

/** What records call a key: the name that qp-capsule gives it. */
export const keyName = (publicKey) => `qp_key_${publicKey.slice(0, 4)}`;

/**
 * Return which of the keys made the signature of a record with this seal, or -1, and what is wrong with it.
 *
 * The record's own word on who sealed it is not protected by anything. It says which keys to try first; that it names one
 * of the keys and another one fits is a finding.
 *
 * @returns {{place: number, fault: string|null}} the fault is a code of findings.js
 */
export function signer({ hash, signature, signedBy }, keys) {
  if (isNothing(signature)) return { place: -1, fault: "signature_missing" };
  const bytes = signatureBytes(signature);
  if (bytes === null || !hash.isWellFormed()) return { place: -1, fault: "signature_invalid" };
  const message = utf8ToBytes(hash);
  const all = [...keys.keys()];
  const named = all.filter((place) => isNamed(keys[place].public_key, signedBy));
  const place = [...named, ...all].find((one) => fits(bytes, message, keys[one].public_key));
  // Keyrings also know keys that are no longer in use, which must be named to be found. A file knows none.
  if (place !== undefined) {
    return { place, fault: named.length > 0 && !named.includes(place) ? "signer_mismatch" : null };
  }
  return { place: -1, fault: named.length > 0 || isNothing(signedBy) ? "signature_invalid" : "key_unknown" };
}

const isNamed = (publicKey, name) => name === keyName(publicKey) || name === publicKey.slice(0, 16);

/** The key id of a C2SP signed note: who signs under which name. */
export function noteKeyId(name, publicKey) {
  const key = hexToBytes(publicKey);
  const named = utf8ToBytes(`${name}\n`);
  const whole = new Uint8Array(named.length + 1 + key.length);
  whole.set(named);
  whole[named.length] = 1; // the algorithm: Ed25519
  whole.set(key, named.length + 1);
  return bytesToHex(sha256(whole).subarray(0, 4));
}

export { bytesToHex, utf8ToBytes };
