// Findings: every reason code with its severity and the sentence that a reader without our vocabulary understands.

const DOUBTFUL = new Set(["parent_missing", "children_open", "time_backwards", "records_lost", "end_lost"]);

/**
 * @param {string} code one of the keys of HEADINGS
 * @param {{index: number|null, sequence: number|null, id: string}} place which record; NOWHERE for the file as a whole
 * @param {string} sentence what is wrong here
 */
export function finding(code, place, sentence) {
  const severity = DOUBTFUL.has(code) ? "doubtful" : "broken";
  return { code, severity, index: place.index, sequence: place.sequence, id: place.id, sentence };
}

export const NOWHERE = { index: null, sequence: null, id: "" };

/** What a code means, as the heading of its findings. */
export const HEADINGS = {
  malformed: "Not readable as a capsule",
  sequence_gap: "Out of sequence",
  sequence_repeated: "The same place in the chain twice",
  link_broken: "Not linked to the capsule before",
  hash_mismatch: "Changed after it was sealed",
  signature_missing: "Not signed",
  signature_invalid: "Signed by none of the keys",
  signer_mismatch: "Signed with another key than it names",
  key_unknown: "Signed with a key that is not here",
  id_repeated: "The same id twice",
  parent_missing: "Its task is not in this file",
  children_missing: "Records of a task are missing",
  children_open: "Records of a task had not ended",
  children_unannounced: "More records than the task announced",
  children_mismatch: "Not the records that the task announced",
  records_lost: "Not everything was recorded",
  end_lost: "How it ended is lost",
  selection_incomplete: "Not the selection that it claims to be",
  time_backwards: "Sealed too early, by its own account",
  checkpoint_truncated: "Shorter than a checkpoint says",
  checkpoint_mismatch: "Not the chain that a checkpoint was made of",
  checkpoint_invalid: "A checkpoint that does not hold",
};

const count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export const SENTENCES = {
  malformed: (why) =>
    `This record cannot be read or hashed as a capsule (${why}). What it said cannot be known from this file.`,
  twice: (name) =>
    `The name “${name.slice(0, 80)}” stands twice in one object of this record: readers differ on what it says.`,
  damaged: (why, read) =>
    `The data in this file is damaged or cut off after ${count(read, "record", "records")} (${why}). What followed cannot be read.`,
  begins: (sequence) =>
    `The chain begins at number ${sequence}: ${count(sequence, "capsule", "capsules")} before it ${sequence === 1 ? "is" : "are"} missing.`,
  gap: (from, to) =>
    from === to
      ? `Number ${from} should stand before this capsule, and is not there: it was removed, or moved.`
      : `Numbers ${from} to ${to} should stand before this capsule, and are not there: they were removed, or moved.`,
  repeated: (expected) => `Number ${expected} should stand here: this capsule was moved, copied or put in.`,
  link: (sequence) =>
    `The hash that this capsule names for number ${sequence} is not the one that capsule has: one of the two was replaced, or its hash was changed.`,
  noLink: () => "This capsule names no capsule before it, although it is not the first: it was not sealed at this place.",
  firstLink: () => "This capsule is the first, but names one before it: it was not sealed at this place.",
  hash: () => "The hash of the content is not the one in the seal: content or hash was changed after sealing.",
  noHash: () => "The seal holds no hash: that the content is unchanged cannot be shown.",
  unsigned: () => "There is no signature: anybody could have written this capsule.",
  signature: (keys) =>
    keys === 1
      ? "The signature does not fit the key: somebody else sealed this capsule, its hash was changed, or this is not the right key."
      : `The signature fits none of the ${keys} keys: somebody else sealed this capsule, its hash was changed, or the right key is not among them.`,
  otherSigner: () => "The capsule names one of the keys as the one that signed it, and the signature fits another one.",
  unknownKey: () =>
    "The capsule names a key that is not among those it was checked with, and its signature fits none of these: it cannot be told who sealed it.",
  id: (other) => `The capsule with number ${other} has the same id: one of them was put in later.`,
  parent: (id, others) =>
    `It belongs to task ${id}, which is not here: still running, recorded elsewhere, or cut off.${others ? ` ${count(others, "more capsule belongs", "more capsules belong")} to it.` : ""}`,
  notEnded: (missing) =>
    missing === 1
      ? "1 child had not ended when the task was sealed and is not here."
      : `${missing} children had not ended when the task was sealed and are not here.`,
  missing: (missing, ended) =>
    `${count(missing, "child is", "children are")} not here, although ${ended.toLocaleString("en")} had ended when this task was sealed: at least one was removed.`,
  unannounced: (here, announced) =>
    `${count(here, "record claims", "records claim")} to belong to this task, which announced ${announced}: some were put in later.`,
  contradiction: () =>
    "What this task says about its children contradicts itself: more had ended than started, or there is no digest.",
  endLost: () => "How this record ended is lost, as it says itself: neither the store nor the disk took that.",
  lost: (records) => `The recording program says here that it could not record ${count(records, "record", "records")}.`,
  selection: (task) =>
    `The file claims to be task ${task} and all that belongs to it, and holds other capsules, or not that task.`,
  children: () =>
    "As many records belong to this task as it announced, but they are not the same ones: at least one was exchanged.",
  noSelection: () => "The file claims to be a selection of a kind that does not exist.",
  notSelected: () => "This capsule does not meet the conditions that the file claims its capsules were selected by.",
  timeOfStart: () => "It says that it was sealed before it began: a clock was set back, or the time of sealing was altered.",
  time: () =>
    "It says that it was sealed earlier than the capsule before it: the clock was set back, or several machines disagree.",
  note: (place) => `Checkpoint ${place} is not a signed note of the expected form, and proves nothing.`,
  noteSignature: (place, keys) =>
    keys === 1
      ? `The signature of checkpoint ${place} does not fit the key.`
      : `The signature of checkpoint ${place} fits none of the ${keys} keys.`,
  truncated: (size, here) =>
    `A checkpoint says that the chain had ${count(size, "capsule", "capsules")}. This file holds ${here}, and not the last of those: its end was cut off, or an older state was put back.`,
  otherChain: (size) =>
    `A checkpoint holds a different hash for this place, from when the chain had ${count(size, "capsule", "capsules")}: history was rewritten.`,
  otherBeginning: (place) => `Checkpoint ${place} is of a chain that begins with another capsule.`,
};
