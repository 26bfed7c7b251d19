// The one script of the report: in a worker it is the engine, in a document it is the page.

import { canonical, parse } from "./json.js";
import { serve } from "./transport.js";
import { start } from "./ui/page.js";

if (typeof document === "undefined") serve();
else {
  const script = document.currentScript;
  // For whoever wants to see, in the browser's console, what exactly is hashed.
  globalThis.capsuledReport = { canonical: (text) => canonical(parse(text)) };
  document.addEventListener("DOMContentLoaded", () => start(script));
}
