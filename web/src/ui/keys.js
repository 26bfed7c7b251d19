// Keys: which ones signatures are checked with, and a field for one that came another way.

import { isPublicKey } from "../seals.js";
import { byId, h, line } from "./dom.js";

/** The keys that came with the file, as far as they can be keys at all. */
export function embeddedKeys(manifest) {
  return manifest.keys
    .filter((key) => isPublicKey(key?.public_key))
    .map((key) => ({
      public_key: key.public_key.toLowerCase(),
      name: typeof key.name === "string" ? key.name : "",
      origin: typeof key.origin === "string" ? key.origin : "",
      isEmbedded: true,
    }));
}

/** Read what was pasted: one or several keys of 64 hexadecimal digits. Null where something else is among them. */
export function pastedKeys(text) {
  const parts = text.split(/[\s,;]+/).filter(Boolean);
  if (parts.length === 0 || !parts.every(isPublicKey)) return null;
  return [...new Set(parts.map((part) => part.toLowerCase()))].map((public_key) => ({
    public_key,
    name: `qp_key_${public_key.slice(0, 4)}`,
    origin: "pasted",
    isEmbedded: false,
  }));
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
    h(
      "span.origin",
      {},
      [key.name, key.origin]
        .filter(Boolean)
        .map((part) => line(part, 80))
        .join(" · "),
    ),
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
    placeholder: "64 hexadecimal digits",
  });
  const submit = (event) => {
    event.preventDefault();
    const pasted = pastedKeys(field.value);
    if (pasted !== null) return use(pasted);
    field.setAttribute("aria-invalid", "true");
    error.textContent = "This is no Ed25519 public key: 64 hexadecimal digits are expected, or several such keys.";
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
      "The key replaces those of the file. Its owner prints it with: capsule keys export-public",
    ),
    error,
  );
}
