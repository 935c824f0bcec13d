// Runs Perfetto's trace processor, as a browser would, from the files of its user interface: node trace_processor.mjs FOLDER REQUESTS REPLIES.
// Both files are streams of TraceProcessorRpc messages.
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { runInThisContext } from "node:vm";

const [folder, requests, replies] = process.argv.slice(2);
const received = [];
const port = { postMessage: (bytes) => received.push(Buffer.from(bytes)) };
const process_ = process;

function answer() {
  port.onmessage({ data: new Uint8Array(readFileSync(requests)) });
  writeFileSync(replies, Buffer.concat(received));
  process_.exit(0);
}

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
const instantiate = WebAssembly.instantiate;
WebAssembly.instantiate = async (...given) => {
  const made = await instantiate(...given);
  setTimeout(answer, 100); // when the module knows that it is ready
  return made;
};
globalThis.process = undefined; // so that it does not take this for node
runInThisContext(readFileSync(join(folder, "engine_bundle.js"), "utf8"));
globalThis.onmessage({ data: port });
globalThis.process = process_;

