// Values: sealed JSON as lists of names and values, bounded in depth, breadth and length.

import { canonical } from "../json.js";
import { h, number, visible } from "./dom.js";
import { label } from "./words.js";

const DEEPEST = 6;
const WIDEST = 100;
const LONGEST = 4000; // characters shown before one asks for all
const SHORT = 120; // a text up to this length stands on the line of its name

/** Draw any parsed value. */
export function valueOf(value, depth = 0) {
  if (isEmpty(value)) return h("span.empty", {}, emptyWord(value));
  if (typeof value === "string") return textOf(value);
  const isMap = value instanceof Map;
  if (!isMap && !Array.isArray(value)) return h("span", {}, String(value));
  if (depth >= DEEPEST) return textOf(written(value));
  return isMap ? mapOf(value, depth) : listOf(value, depth);
}

function mapOf(map, depth) {
  const entries = [...map];
  const filled = entries.filter(([, value]) => !isEmpty(value)).slice(0, WIDEST);
  const empty = entries.filter(([, value]) => isEmpty(value)).slice(0, WIDEST);
  const left = entries.length - filled.length - empty.length;
  return h(
    "dl.values",
    {},
    ...filled.map(([key, value]) =>
      h(
        "div",
        { class: isBlock(value) ? "block" : "inline" },
        h("dt", {}, keyOf(key)),
        h("dd", {}, valueOf(value, depth + 1)),
      ),
    ),
    empty.length > 0
      ? h("div.nothing", {}, h("dt", {}, "Empty"), h("dd", {}, empty.map(([key]) => keyOf(key)).join(", ")))
      : null,
    left > 0 ? h("div.nothing", {}, h("dt", {}, "More"), h("dd", {}, `${number(left)} more, in the raw record`)) : null,
  );
}

function listOf(list, depth) {
  const left = list.length - WIDEST;
  const items = list.slice(0, WIDEST).map((value) => h("li", {}, valueOf(value, depth + 1)));
  if (left > 0) items.push(h("li.empty", {}, `${number(left)} more, in the raw record`));
  return h("ol.values", {}, ...items);
}

const DIGITS = /^[0-9a-f-]{16,128}$/; // hashes, signatures, ids

function textOf(text) {
  const name = DIGITS.test(text) ? "text digits" : text.length > SHORT ? "text long" : "text";
  const element = h("bdi", { class: name }, visible(text.slice(0, LONGEST).toWellFormed()));
  if (text.length <= LONGEST) return element;
  const all = h("button.quiet", { type: "button" }, `Show all ${number(text.length)} characters`);
  all.addEventListener("click", () => {
    element.textContent = visible(text);
    all.remove();
  });
  return h("div", {}, element, all);
}

const isBlock = (value) =>
  typeof value === "string"
    ? value.length > SHORT || value.includes("\n")
    : value instanceof Map || Array.isArray(value);
const keyOf = (key) => visible(label(key.slice(0, 100)));
const isEmpty = (value) => value === null || value === "" || value?.size === 0 || value?.length === 0;
const emptyWord = (value) => (value === null ? "none" : "empty");

function written(value) {
  try {
    return canonical(value);
  } catch {
    return "(cannot be written: a text holds half a surrogate pair)";
  }
}
