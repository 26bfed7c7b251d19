// Limits: what a seal proves and what it does not, in words for whoever has to rely on it.

import { byId, h } from "./dom.js";

export function showLimits() {
  const command = h("code", {}, "capsuled verify FILE.html --pubkey …");
  byId("limits").replaceChildren(
    h("h2", { id: "limits-title" }, "What this proves, and what it does not"),
    h(
      "div.columns",
      {},
      h(
        "p",
        {},
        h("strong", {}, "A signature proves who sealed a capsule, and that nothing was changed since. "),
        "It does not prove that the content was true, that the clock was right, or that a law is met.",
      ),
      h(
        "p",
        {},
        h("strong", {}, "This page can be altered as a whole, its checks included. "),
        "To check without trusting it, run ",
        command,
        ", which reads only the data in the file.",
      ),
      h(
        "p",
        {},
        h("strong", {}, "Keys that came with the file prove only that it agrees with itself. "),
        "Compare them with a key that you received another way, or paste that key above.",
      ),
      h(
        "p",
        {},
        h("strong", {}, "An approval is asserted by the program that recorded it. "),
        "Whether a person approved, and which person, only that program knows.",
      ),
    ),
  );
}
