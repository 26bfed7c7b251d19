// Money, added up exactly: decimal texts as integers of a common scale, never as floats.

const DECIMAL = /^([-+]?)([0-9]{1,40})(?:\.([0-9]{1,60}))?(?:[eE]([-+]?[0-9]{1,2}))?$/;
const SCALE = 160; // places that the longest fraction with the smallest exponent needs: nothing is ever rounded

/** A sum that grows; `unknown` counts what could not be read as an amount. */
export class DecimalSum {
  constructor() {
    this.scaled = 0n;
    this.unknown = 0;
  }

  /** Add a decimal text such as "0.000025"; anything else counts as unknown. */
  add(text) {
    const match = DECIMAL.exec(text ?? "");
    if (match === null) {
      this.unknown += 1;
      return;
    }
    const [, sign, whole, fraction = "", exponent = "0"] = match;
    const amount = BigInt(whole + fraction) * 10n ** BigInt(SCALE - fraction.length + Number(exponent));
    this.scaled += sign === "-" ? -amount : amount;
  }

  /** The exact sum, without trailing zeros. */
  toString() {
    const digits = (this.scaled < 0n ? -this.scaled : this.scaled).toString().padStart(SCALE + 1, "0");
    const fraction = digits.slice(-SCALE).replace(/0+$/, "");
    return `${this.scaled < 0n ? "-" : ""}${digits.slice(0, -SCALE)}${fraction && "."}${fraction}`;
  }

  /** Nearly the sum, for the length of a bar. */
  valueOf() {
    return Number(this.toString());
  }
}
