// Money, added up exactly: decimal texts as integers of a common scale, never as floats.

// As Python's Decimal reads it once white space around it and underscores are gone; but for infinities and NaN.
const DECIMAL = /^([-+]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))(?:[eE]([-+]?[0-9]+))?$/;
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+";
const AROUND = new RegExp(`^${SPACE}|${SPACE}$`, "g"); // white space as Python has it
const PLACES = 30; // before and behind the point of an amount that can be added up exactly

/** Write a decimal text such as "2.5e-05" out: "0.000025". "" for what is not one, or has too many places. */
export function decimal(text) {
  const match = DECIMAL.exec(text.replace(AROUND, "").replaceAll("_", "").replace(/(?![0-9])\p{Nd}/gu, ascii));
  if (match === null) return "";
  const [, sign, whole = "", behind = "", alone = "", power = "0"] = match;
  const digits = `${whole}${behind}${alone}`.replace(/^0+(?=[0-9])/, "");
  const exponent = Number(power) - behind.length - alone.length;
  if (digits.length - 1 + exponent >= PLACES || exponent < -PLACES) return "";
  const padded = digits.padEnd(digits.length + exponent, "0").padStart(1 - exponent, "0");
  const point = padded.length + Math.min(exponent, 0);
  return `${sign === "-" ? "-" : ""}${padded.slice(0, point)}${exponent < 0 ? "." : ""}${padded.slice(point)}`;
}

/** The ASCII digit for one of another script; in Unicode all of a script stand in a row, from zero to nine. */
function ascii(digit) {
  const place = digit.codePointAt(0);
  let first = place;
  while (/\p{Nd}/u.test(String.fromCodePoint(first - 1))) first -= 1;
  return String((place - first) % 10);
}

/** A sum that grows; `unknown` counts what was not an amount. */
export class DecimalSum {
  constructor() {
    this.scaled = 0n;
    this.unknown = 0;
  }

  /** Add what `decimal` has written out; "" counts as unknown. */
  add(text) {
    if (text === "") {
      this.unknown += 1;
      return;
    }
    const [whole, fraction = ""] = text.split(".");
    this.scaled += BigInt(whole + fraction.padEnd(PLACES, "0"));
  }

  /** The exact sum, without trailing zeros. */
  toString() {
    const digits = (this.scaled < 0n ? -this.scaled : this.scaled).toString().padStart(PLACES + 1, "0");
    const fraction = digits.slice(-PLACES).replace(/0+$/, "");
    return `${this.scaled < 0n ? "-" : ""}${digits.slice(0, -PLACES)}${fraction && "."}${fraction}`;
  }

  /** Nearly the sum, for the length of a bar. */
  valueOf() {
    return Number(this.toString());
  }
}
