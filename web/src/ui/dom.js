// Elements: the only place where data meets the document. It goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 *
 * @param {string} name a tag, with classes after dots: "p.note"
 * @param {object} properties attributes, or handlers where the name begins with "on"; null and false leave them out
 * @param {...(Node|string|number|null)} children texts become text nodes
 */
export function h(name, properties = {}, ...children) {
  return filled(document.createElement(name.split(".")[0]), name, properties, children);
}

/** The same for SVG. */
export function svg(name, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, name.split(".")[0]), name, properties, children);
}

function filled(element, name, properties, children) {
  const classes = name.split(".").slice(1);
  if (classes.length > 0) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false && value !== undefined)
      element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

// Control characters, marks that turn the direction of text, and other characters that are not seen but change what is.
const INVISIBLE =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Surrogate}/gu;

/** Make visible what would hide or rearrange the text around it. */
export function visible(text) {
  return text.replace(INVISIBLE, (char) => `‹U+${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
}

/** The same on one line, cut to a length. */
export function line(text, length = 300) {
  const flat = text.slice(0, length + 1).replace(/\s+/g, " ");
  return visible(flat.length > length ? `${flat.slice(0, length)}…` : flat);
}

export const number = (value) => value.toLocaleString("en");
export const counted = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;
