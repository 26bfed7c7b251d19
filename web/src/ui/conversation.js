// The conversation of a call: what was offered and asked for, who said what, and how it ended.

import { ANSWER } from "../conversation.js";
import { h, line } from "./dom.js";
import { valueOf } from "./values.js";

const SPEAKERS = 40; // characters of who speaks

export function conversationView(talk) {
  return h(
    "section.part.talk",
    { "aria-label": "Conversation" },
    h("h4", {}, "Conversation ", h("small", {}, "What was asked, and what was answered")),
    offered(talk),
    ...talk.notes.map((note) => h("p.help", {}, line(note))),
    h("ol.turns", {}, ...talk.turns.map(turn)),
    ending(talk),
  );
}

function offered({ tools, parameters }) {
  const told = new Map();
  if (tools.length > 0) told.set("tools offered", tools.join(", "));
  if (parameters.size > 0) told.set("parameters", parameters);
  return told.size > 0 ? valueOf(told) : null;
}

function turn({ speaker, parts }) {
  const isAnswer = speaker === ANSWER || speaker.startsWith(`${ANSWER} `);
  return h(
    "li",
    { class: isAnswer ? "answer" : null },
    h("span.speaker", {}, line(speaker, SPEAKERS) || "?"),
    h("div.said", {}, ...parts.map(part)),
  );
}

function part({ kind, value }) {
  if (kind === "") return h("div", {}, valueOf(value));
  return h("div.named", {}, h("span.what", {}, line(kind, 80)), " ", valueOf(value));
}

function ending({ finish, estimated }) {
  const told = [];
  if (finish) told.push(`Finished because: ${line(finish, 80)}.`);
  if (estimated !== null) {
    told.push(`Tokens about ${estimated.map((one) => line(one, 20)).join(" → ")}, estimated: the provider reported none.`);
  }
  return told.length > 0 ? h("p.help", {}, told.join(" ")) : null;
}
