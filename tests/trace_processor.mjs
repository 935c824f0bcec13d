// Runs Perfetto's trace processor from the files of its user interface: node trace_processor.mjs FOLDER REQUESTS REPLIES.
// Both files are streams of TraceProcessorRpc messages. The program takes this for the worker of a browser.
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { runInThisContext } from "node:vm";

const [folder, requests, replies] = process.argv.slice(2);
const received = [];
const port = { postMessage: (bytes) => received.push(Buffer.from(bytes)) };
const node = process;

globalThis.self = globalThis;
globalThis.location = { href: "http://localhost/" };
globalThis.WorkerGlobalScope = class {};
globalThis.XMLHttpRequest = class {
  open(method, url) {
    this.response = new Uint8Array(readFileSync(join(folder, basename(url)))).buffer;
  }
  send() {}
};
globalThis.process = undefined;
console.log = console.warn = () => {};
runInThisContext(readFileSync(join(folder, "engine_bundle.js"), "utf8"));
globalThis.process = node;

globalThis.onmessage({ data: port });
setTimeout(() => {
  port.onmessage({ data: new Uint8Array(readFileSync(requests)) });
  writeFileSync(replies, Buffer.concat(received));
  node.exit(0);
});
