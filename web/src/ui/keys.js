// Keys: which ones signatures are checked with, and a field for one that came another way.

import { isPublicKey, keyName } from "../seals.js";
import { byId, h } from "./dom.js";

/** The keys that came with the file; one that no signature can fit is one of them, as for the command. */
export function embeddedKeys(manifest) {
  return named(manifest.keys.map((key) => key.public_key).filter(isKeyText), true);
}

/** Whether a text has the form of a public key. */
export const isKeyText = (text) => typeof text === "string" && /^[0-9a-fA-F]{64}$/.test(text);

/**
 * Read what was pasted: one or several keys of 64 hexadecimal digits, or what `capsuled keys export` writes.
 * Null where something else is among them.
 */
export function pastedKeys(text) {
  const parts = text.trim().startsWith("{") ? keyringKeys(text) : text.split(/[\s,;]+/).filter(Boolean);
  if (parts.length === 0 || !parts.every(isPublicKey)) return null;
  return named(parts, false);
}

function keyringKeys(text) {
  try {
    return JSON.parse(text).epochs.map((epoch) => String(epoch.public_key_hex));
  } catch {
    return [];
  }
}

function named(texts, isEmbedded) {
  const keys = new Set(texts.map((text) => text.toLowerCase()));
  return [...keys].map((public_key) => ({ public_key, name: keyName(public_key), isEmbedded }));
}

/**
 * Draw the keys in use and the field for others.
 *
 * @param {object[]} keys those in use
 * @param {object[]} embedded those in the file
 * @param {(keys: object[]) => void} use checks again with other keys
 */
export function showKeys(keys, embedded, use) {
  byId("keys").replaceChildren(
    h("h3", {}, "Keys"),
    keys.length > 0 ? h("ul.keys", {}, ...keys.map(keyItem)) : h("p", {}, "No key came with this file."),
    keyForm(keys, embedded, use),
  );
}

function keyItem(key) {
  return h(
    "li",
    {},
    h("code", {}, key.public_key.match(/.{16}/g).join(" ")),
    h("span.origin", {}, key.name),
    h("span.tag", {}, key.isEmbedded ? "came with this file" : "given by you"),
  );
}

function keyForm(keys, embedded, use) {
  const error = h("p.error", { id: "key-error", role: "alert" });
  const field = h("input", {
    id: "key",
    type: "text",
    spellcheck: "false",
    autocomplete: "off",
    "aria-describedby": "key-help key-error",
    placeholder: "64 hexadecimal digits, or keys.json as a text",
  });
  const submit = (event) => {
    event.preventDefault();
    const pasted = pastedKeys(field.value);
    if (pasted !== null) return use(pasted);
    field.setAttribute("aria-invalid", "true");
    error.textContent = "This is not an Ed25519 public key: 64 hexadecimal digits are expected, or several such keys.";
    return undefined;
  };
  const back = h("button", { type: "button", onclick: () => use(embedded) }, "Use the keys of the file");
  return h(
    "form",
    { onsubmit: submit },
    h("label", { for: "key" }, "Check with a key that you got another way"),
    h(
      "div.row",
      {},
      field,
      h("button.primary", { type: "submit" }, "Check again"),
      keys === embedded || !embedded.length ? null : back,
    ),
    h(
      "p.help",
      { id: "key-help" },
      "The keys replace those of the file. Their owner prints all of them with: capsuled keys export",
    ),
    error,
  );
}
