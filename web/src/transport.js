// Transport: between the page and its engine, which runs in a worker made of this very script, or else beside the page.

import { Engine } from "./engine.js";

const WORKER_SLICE = 50; // milliseconds of work between two looks at the page's wishes
const PAGE_SLICE = 12;

/** The worker's side. */
export function serve() {
  const engine = new Engine((message) => self.postMessage(message), WORKER_SLICE);
  self.onmessage = ({ data }) => perform(engine, data);
  self.postMessage({ op: "ready" });
}

async function perform(engine, message) {
  try {
    await engine[message.op](message);
    if (message.op === "load") engine.post({ op: "loaded" });
  } catch (error) {
    engine.post({ op: "failed", message: String(error) });
  }
}

/** The page's side. */
export class Line {
  /**
   * @param {string} script the text of the script that holds the engine
   * @param {(message: object) => void} receive takes what the engine tells unasked
   */
  constructor(script, receive) {
    this.receive = receive;
    this.waiting = new Map();
    this.requests = 0;
    this.queue = []; // what was sent before there was an engine
    this.isOpen = false;
    this.deliver = (message) => this.queue.push(message);
    this.open(script);
  }

  /** Tell the engine to do something. */
  send(op, message = {}) {
    this.deliver({ ...message, op });
  }

  /** Ask the engine, and resolve with its answer. */
  ask(op, message) {
    const request = (this.requests += 1);
    return new Promise((resolve) => {
      this.waiting.set(request, resolve);
      this.send(op, { ...message, request });
    });
  }

  open(script) {
    try {
      const worker = new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
      worker.onmessage = ({ data }) => {
        if (data.op === "ready") this.connect((message) => worker.postMessage(message));
        else this.take(data);
      };
      worker.onerror = ({ message }) => (this.isOpen ? this.receive({ op: "failed", message }) : this.openBeside());
    } catch {
      this.openBeside();
    }
  }

  openBeside() {
    const engine = new Engine((message) => this.take(message), PAGE_SLICE);
    this.connect((message) => perform(engine, message));
  }

  connect(deliver) {
    this.isOpen = true;
    this.deliver = deliver;
    for (const message of this.queue.splice(0)) deliver(message);
  }

  take(message) {
    if (message.op !== "answer") {
      this.receive(message);
      return;
    }
    this.waiting.get(message.request)?.(message.answer);
    this.waiting.delete(message.request);
  }
}
