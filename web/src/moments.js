// Moments as sealed records spell them: ISO 8601 with up to six places of a second and an offset.

const ISO =
  /^(\d{4})(-?)(\d{2})\2(\d{2})(?:[T ](\d{2})(?::?(\d{2})(?::?(\d{2})(?:[.,](\d+))?)?)?(Z|[-+]\d{2}(?::?\d{2})?)?)?$/;

/** Return microseconds since 1970, null for what is not a moment. Without an offset it is UTC, as everywhere in CPS. */
export function microseconds(text) {
  const match = typeof text === "string" ? ISO.exec(text) : null;
  if (match === null) return null;
  const [, year, , month, day, hour = "00", minute = "00", second = "00", fraction = "", offset = "Z"] = match;
  const moment = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  // Date.parse lets the 31st of every month pass, and moves it on.
  if (Number.isNaN(moment) || new Date(moment).getUTCDate() !== Number(day)) return null;
  return (moment - minutesOf(offset) * 60_000) * 1000 + Number(fraction.padEnd(6, "0").slice(0, 6));
}

/** Whether a text is a moment that names its offset. */
export const isZoned = (text) => microseconds(text) !== null && ISO.exec(text)[9] !== undefined;

function minutesOf(offset) {
  if (offset === "Z") return 0;
  const [hours, minutes] = [Number(offset.slice(1, 3)), Number(offset.slice(3).replace(":", ""))];
  return (offset[0] === "-" ? -1 : 1) * (hours * 60 + minutes);
}

/** Print microseconds since 1970 as "2026-03-01 12:00:00 UTC". */
export function printed(moment) {
  if (moment === null) return "unknown";
  return `${new Date(Math.floor(moment / 1000)).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** Print a length of time, given in microseconds, in its two largest units. */
export function span(length) {
  const seconds = Math.round(length / 1e6);
  if (seconds < 1) return `${Math.round(length / 1000)} ms`;
  const units = [
    [86_400, "d"],
    [3_600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const first = units.findIndex(([size]) => seconds >= size);
  const [size, name] = units[first];
  const [below, belowName] = units[first + 1] ?? [0, ""];
  const rest = below ? Math.floor((seconds % size) / below) : 0;
  return `${Math.floor(seconds / size)} ${name}${rest ? ` ${rest} ${belowName}` : ""}`;
}
