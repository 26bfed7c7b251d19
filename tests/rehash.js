// CPS canonical JSON (section 2) and SHA3-256 in a second language: one document a line in, one hash a line out.
const { createHash } = require("crypto");
const { createInterface } = require("readline");

// The fields that CPS types as floats keep a fraction even where they are integral.
const isFloat = (path) => /^reasoning\.(confidence|options\.\d+\.feasibility)$/.test(path.join("."));

function canonical(value, path) {
  if (Array.isArray(value)) {
    return `[${value.map((item, index) => canonical(item, [...path, index])).join(",")}]`;
  }
  if (value !== null && typeof value === "object") {
    const fields = Object.keys(value).sort();
    return `{${fields.map((key) => `${JSON.stringify(key)}:${canonical(value[key], [...path, key])}`).join(",")}}`;
  }
  if (typeof value === "number" && Number.isInteger(value) && isFloat(path)) return value.toFixed(1);
  return JSON.stringify(value);
}

createInterface({ input: process.stdin }).on("line", (line) => {
  console.log(createHash("sha3-256").update(canonical(JSON.parse(line), []), "utf8").digest("hex"));
});
