// Runs Perfetto's trace processor, as a browser would, from the files of its user interface: node trace_processor.mjs FOLDER REQUESTS REPLIES.
// Both files are streams of TraceProcessorRpc messages.
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { runInThisContext } from "node:vm";

const [folder, requests, replies] = process.argv.slice(2);
const received = [];
const port = { postMessage: (bytes) => received.push(Buffer.from(bytes)) };
const process_ = process;

globalThis.self = globalThis;
globalThis.WorkerGlobalScope = class {};
globalThis.location = { href: "http://localhost/" };
globalThis.importScripts = () => {};
globalThis.XMLHttpRequest = class {
  open(method, url) {
    this.bytes = readFileSync(join(folder, basename(url)));
  }
  send() {
    this.response = new Uint8Array(this.bytes).buffer;
  }
};
console.warn = console.log = () => {};
globalThis.process = undefined; // so that it does not take this for node
runInThisContext(readFileSync(join(folder, "engine_bundle.js"), "utf8"));
globalThis.onmessage({ data: port });
globalThis.process = process_;

const bytes = readFileSync(requests);
const wait = () => {
  try {
    port.onmessage({ data: new Uint8Array(bytes) });
  } catch (error) {
    if (!String(error).includes("ready")) console.error(String(error));
  }
};
setTimeout(() => {
  wait();
  setTimeout(() => {
    writeFileSync(replies, Buffer.concat(received));
    process.exit(0);
  }, 500);
}, 3000);
