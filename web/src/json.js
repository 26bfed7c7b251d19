// JSON as CPS hashes it (section 2): what Python's json.dumps writes with sorted keys, no spaces and literal UTF-8.
//
// JSON.parse loses what a hash needs: the spelling of numbers (1.0, 2**60) and keys like __proto__. Here objects are Maps,
// numbers keep the text that Python would print, and nothing recurses, so that no depth of nesting overflows the stack.

/** A number: `text` is what Python's json.dumps prints for it. */
export class Num {
  constructor(text) {
    this.text = text;
  }
  valueOf() {
    return Number(this.text);
  }
  toString() {
    return this.text;
  }
}

/** A text is not JSON, or holds what cannot be hashed. */
export class JsonError extends Error {}

const NOTHING = new Set();

/** Whether a value is one that Python takes for false: none, empty, or zero. */
export function isNothing(value) {
  if (value instanceof Num) return Number(value) === 0;
  return !value || value.size === 0 || value.length === 0;
}

/** Whether objects and lists stand in each other, and in this object, more than so many deep. */
export function isDeeper(value, levels, without = NOTHING) {
  let inner = [...value].filter(([name]) => !without.has(name)).map(([, one]) => one);
  for (let level = 0; level < levels; level += 1) {
    const containers = inner.filter((one) => one instanceof Map || Array.isArray(one));
    if (containers.length === 0) return false;
    inner = containers.flatMap((one) => [...one.values()]);
  }
  return true;
}

// Python refuses longer ones (sys.set_int_max_str_digits), so nothing that Python sealed holds any.
const MAX_INTEGER_DIGITS = 4300;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const WORDS = [
  ["true", true],
  ["false", false],
  ["null", null],
  ["NaN", new Num("NaN")],
  ["Infinity", new Num("Infinity")],
  ["-Infinity", new Num("-Infinity")],
];
const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

/**
 * Parse a whole text as Python's json.loads does. Objects come out as Maps, numbers as Num. Of a name that stands twice in
 * one object the last one counts; `onRepeated` is told of it, for other readers take the first (RFC 8259, 4).
 */
export function parse(text, onRepeated = () => {}) {
  return new Parser(text, onRepeated).document();
}

class Parser {
  constructor(text, onRepeated) {
    this.text = text;
    this.at = 0;
    this.onRepeated = onRepeated;
  }

  document() {
    const open = []; // the containers that are not closed yet: {value, key}
    for (;;) {
      let value = this.begin();
      if (value instanceof Map || Array.isArray(value)) {
        const closing = value instanceof Map ? "}" : "]";
        if (!this.take(closing)) {
          open.push({ value, key: value instanceof Map ? this.key() : null });
          continue;
        }
      }
      // A finished value goes into the container around it, which may finish that one too.
      for (;;) {
        const around = open.at(-1);
        if (around === undefined) return this.end(value);
        const isMap = around.value instanceof Map;
        if (!isMap) around.value.push(value);
        else {
          if (around.value.has(around.key)) this.onRepeated(around.key);
          around.value.set(around.key, value);
        }
        if (this.take(",")) {
          if (isMap) around.key = this.key();
          break;
        }
        this.expect(isMap ? "}" : "]");
        value = open.pop().value;
      }
    }
  }

  /** Read a whole scalar, or the opening of a container, which comes back empty. */
  begin() {
    this.space();
    switch (this.text[this.at]) {
      case "{":
        this.at += 1;
        return new Map();
      case "[":
        this.at += 1;
        return [];
      case '"':
        return this.string();
      default:
        return this.number() ?? this.word();
    }
  }

  key() {
    this.space();
    if (this.text[this.at] !== '"') this.fail("a key is missing");
    const key = this.string();
    this.expect(":");
    return key;
  }

  string() {
    this.at += 1;
    let value = "";
    for (;;) {
      PLAIN.lastIndex = this.at;
      value += PLAIN.exec(this.text)[0];
      this.at = PLAIN.lastIndex;
      const char = this.text[this.at];
      this.at += 1;
      if (char === '"') return value;
      if (char !== "\\") this.fail("a text is not closed, or holds a control character");
      value += this.escape();
    }
  }

  escape() {
    const char = this.text[this.at];
    this.at += 1;
    if (char === "u") {
      const digits = this.text.slice(this.at, this.at + 4);
      if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.fail("an escape is wrong");
      this.at += 4;
      return String.fromCharCode(parseInt(digits, 16));
    }
    if (!Object.hasOwn(ESCAPES, char ?? "")) this.fail("an escape is wrong");
    return ESCAPES[char];
  }

  number() {
    NUMBER.lastIndex = this.at;
    const match = NUMBER.exec(this.text);
    if (match === null) return undefined;
    this.at = NUMBER.lastIndex;
    const [literal, fraction, exponent] = match;
    if (fraction !== undefined || exponent !== undefined) return new Num(pythonFloat(Number(literal)));
    if (literal.length - (literal[0] === "-") > MAX_INTEGER_DIGITS) this.fail("an integer is too long");
    return new Num(literal === "-0" ? "0" : literal);
  }

  word() {
    const found = WORDS.find(([word]) => this.text.startsWith(word, this.at));
    if (found === undefined) this.fail("a value is missing");
    this.at += found[0].length;
    return found[1];
  }

  space() {
    for (;;) {
      const code = this.text.charCodeAt(this.at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.at += 1;
    }
  }

  take(char) {
    this.space();
    if (this.text[this.at] !== char) return false;
    this.at += 1;
    return true;
  }

  expect(char) {
    if (!this.take(char)) this.fail(`"${char}" is missing`);
  }

  end(value) {
    this.space();
    if (this.at < this.text.length) this.fail("something stands behind the value");
    return value;
  }

  fail(what) {
    throw new JsonError(`${what}, at character ${this.at}`);
  }
}

/** Print a double as Python's repr does: the shortest digits that give it back, exponents from 1e-05 down and 1e+16 up. */
export function pythonFloat(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "Infinity" : "-Infinity";
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  // toExponential() without an argument gives as many digits as are needed, and no more.
  const [mantissa, power] = Math.abs(value).toExponential().split("e");
  const digits = mantissa.replace(".", "");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    const fraction = digits.length > 1 ? `.${digits.slice(1)}` : "";
    const size = String(Math.abs(exponent)).padStart(2, "0");
    return `${sign}${digits[0]}${fraction}e${exponent < 0 ? "-" : "+"}${size}`;
  }
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  return `${sign}${whole}.${digits.slice(exponent + 1) || "0"}`;
}

const NOT_FINITE = new Set(["NaN", "Infinity", "-Infinity"]);

/**
 * Return the canonical JSON of a parsed value.
 *
 * @param {*} value what `parse` returned
 * @param {Set<string>} without keys of the outermost object to leave out
 * @param {boolean} isFinite whether to refuse NaN and infinities, which Python prints although JSON has none
 * @throws {JsonError} a text holds half a surrogate pair, which UTF-8 cannot carry; or as `isFinite` says
 */
export function canonical(value, without = NOTHING, isFinite = false) {
  const parts = [];
  const waiting = [{ value }]; // what is still to be written, the next one last
  let skipped = without;
  while (waiting.length > 0) {
    const next = waiting.pop();
    if (next.text !== undefined) parts.push(next.text);
    else if (next.value instanceof Map) {
      parts.push("{");
      waiting.push({ text: "}" });
      const keys = sorted([...next.value.keys()].filter((key) => !skipped.has(key)));
      for (let index = keys.length - 1; index >= 0; index -= 1) {
        waiting.push({ value: next.value.get(keys[index]) }, { text: `${index ? "," : ""}${quoted(keys[index])}:` });
      }
    } else if (Array.isArray(next.value)) {
      parts.push("[");
      waiting.push({ text: "]" });
      for (let index = next.value.length - 1; index >= 0; index -= 1) {
        waiting.push({ value: next.value[index] });
        if (index) waiting.push({ text: "," });
      }
    } else {
      const scalar = typeof next.value === "string" ? quoted(next.value) : String(next.value);
      if (isFinite && NOT_FINITE.has(scalar)) throw new JsonError(`${scalar} is not JSON`);
      parts.push(scalar);
    }
    skipped = NOTHING;
  }
  const text = parts.join("");
  if (!text.isWellFormed()) throw new JsonError("a text holds half a surrogate pair, which cannot be hashed");
  return text;
}

const TO_ESCAPE = /["\\\u0000-\u001f]/;
const ALL_TO_ESCAPE = /["\\\u0000-\u001f]/g;
const SHORT = { '"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f" };

function quoted(text) {
  if (!TO_ESCAPE.test(text)) return `"${text}"`;
  const escaped = text.replace(
    ALL_TO_ESCAPE,
    (char) => SHORT[char] ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return `"${escaped}"`;
}

/** Sort by code point, as Python does; JavaScript's own order is by UTF-16 unit, and differs beyond U+FFFF. */
function sorted(keys) {
  const plain = keys.every((key) => !/[\ud800-\uffff]/.test(key));
  return plain ? keys.sort() : keys.sort(byCodePoint);
}

export function byCodePoint(left, right) {
  const [a, b] = [Array.from(left), Array.from(right)];
  for (let index = 0; index < Math.min(a.length, b.length); index += 1) {
    const difference = a[index].codePointAt(0) - b[index].codePointAt(0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
