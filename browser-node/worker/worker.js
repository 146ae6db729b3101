// The dedicated worker that holds the engine. A module worker: the page starts it with { type: "module" }.
//
// The page says   { id, call, … }            one of CALLS, with what it takes
//                 { id, cancel: true }       ends the call of this id; it answers with an error named AbortError
// The worker says { id, event }              what happens meanwhile: { bytes, bytes_all } or { token, text, … }
//                 { id, result } or { id, error: { name, message } }   the end of the call
//
// Calls overlap only where that makes sense: figures and destroy may come while an answer is being made.

import init, { Engine, every_kernel } from "./browser_node.js";
import { compile } from "./compile.js";

let engine;
const under_way = new Map();

function opened() {
  if (engine === undefined) {
    throw new Error("no adapter is open: call open first");
  }
  return engine;
}

// What the browser tells of the adapter's name, in words of its own.
async function names() {
  const { info } = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  const words = [info.vendor, info.architecture, info.device, info.description];
  return { adapter: words.filter((word) => word !== "").join(" ") };
}

const CALLS = {
  // The adapter. `plain` keeps it to the limits that every WebGPU has.
  async open({ plain = false }) {
    await init();
    engine?.free();
    engine = await Engine.open(plain);
    return { ...JSON.parse(engine.adapter()), ...(await names()) };
  },
  async figures() {
    return JSON.parse(opened().figures());
  },
  async bandwidth() {
    return { bytes_per_second: await opened().bandwidth() };
  },
  // For tests: without `kernels`, every one that the engine can make.
  async compile({ kernels }) {
    await init();
    return compile(kernels ?? JSON.parse(every_kernel()));
  },
  async destroy() {
    opened().destroy();
    return {};
  },
};

async function answer({ id, call, ...given }) {
  const abort = new AbortController();
  under_way.set(id, abort);
  const happened = (event) => postMessage({ id, event });
  try {
    if (!Object.hasOwn(CALLS, call)) {
      throw new Error(`there is no call ${call}`);
    }
    postMessage({ id, result: await CALLS[call](given, happened, abort.signal) });
  } catch (error) {
    postMessage({ id, error: { name: error?.name ?? "Error", message: error?.message ?? String(error) } });
  } finally {
    under_way.delete(id);
  }
}

addEventListener("message", ({ data }) => {
  if (data.cancel === true) {
    under_way.get(data.id)?.abort();
  } else {
    answer(data);
  }
});
