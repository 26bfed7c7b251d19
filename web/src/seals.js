// Seals and signatures: SHA3-256 of the content, Ed25519 over the hash's 64 hexadecimal digits (CPS section 3).

import { ed25519 } from "@noble/curves/ed25519.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { sha3_256 } from "@noble/hashes/sha3.js";
import { bytesToHex, hexToBytes, utf8ToBytes } from "@noble/hashes/utils.js";

import { canonical } from "./json.js";

/** What stands beside the content in a record, outside the hash. */
export const SEAL_FIELDS = new Set(["hash", "signature", "signature_pq", "signed_at", "signed_by"]);

export const sha3 = (text) => bytesToHex(sha3_256(utf8ToBytes(text)));
export const contentHash = (record) => sha3(canonical(record, SEAL_FIELDS, true));
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

/** Return which of the keys made the signature of a record with this seal, or -1. */
export function signer({ hash, signature, signedBy }, keys) {
  const bytes = signatureBytes(signature);
  if (typeof hash !== "string" || bytes === null) return -1;
  const message = utf8ToBytes(hash);
  // signed_by is not protected by anything: it decides which key is tried first, and nothing else.
  const hinted = keys.findIndex(({ name, public_key }) => name === signedBy || public_key.slice(0, 16) === signedBy);
  const order = keys.map((_, index) => index).sort((a, b) => (b === hinted) - (a === hinted));
  return order.find((index) => fits(bytes, message, keys[index].public_key)) ?? -1;
}

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
