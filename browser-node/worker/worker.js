// The dedicated worker that holds the engine. A module worker: the page starts it with { type: "module" }.
//
// The page says   { id, call, … }            one of CALLS, with what it takes
//                 { id, cancel: true }       ends the call of this id; it answers with an error named AbortError
// The worker says { id, event }              what happens meanwhile. A load: { bytes, bytes_all }. A chat, whose texts
//                                            are whole characters: { prompt_tokens }, then { kind, text, ids, tokens,
//                                            at_ms }. An answer in tokens: { token, text, tokens, at_ms }; the last
//                                            text of one that ends within a character has no token
//                 { id, result } or { id, error: { name, message } }   the end of the call
//
// An error named LostError says that the device is gone: open and load again, then make the same call with `given`: of
// an answer in tokens all tokens so far; of a chat the events of all attempts, in order. Where the first attempt of a
// chat was itself given events, those come first; where it was given a text, that: [{ text }, ...events].
// Calls overlap only where that makes sense: figures and destroy may come while an answer is being made; a load or
// another answer is refused then; open ends what is under way with a LostError.

import init, { Engine, every_kernel } from "./browser_node.js";
import { compile } from "./compile.js";

// Logits go out in posts of about this many bytes.
const POST_BYTES = 4 << 20;

// How far loading is, is told each time that about so many bytes more have come.
const TELL_BYTES = 1 << 20;

let engine;
const under_way = new Map();

function opened() {
  if (engine === undefined) {
    throw new Error("no adapter is open: call open first");
  }
  return engine;
}

// What browsers call adapters that compute on the CPU.
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|software|basic render/i;

// What the browser tells of the adapter, in words of its own, and whether they are those of a software adapter. The
// engine does not get to see these words. Without an adapter its own error says so.
async function described() {
  const found = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!found) {
    return { adapter: "", is_software: false };
  }
  const { info } = found;
  const words = [info.vendor, info.architecture, info.device, info.description];
  const adapter = words.filter((word) => word !== "").join(" ");
  return { adapter, is_software: info.isFallbackAdapter === true || SOFTWARE.test(adapter) };
}

// The length of what a response brings. With an encoding the header counts the encoded bytes, which nobody sees.
function bytes_of({ headers }) {
  const length = headers.get("Content-Length");
  const is_encoded = (headers.get("Content-Encoding") ?? "identity") !== "identity";
  return length === null || is_encoded ? undefined : Number(length);
}

const CALLS = {
  // The adapter. `plain` keeps it to the limits that every WebGPU has.
  async open({ plain = false }) {
    await init();
    // Not freed: what is under way on it may still end. The collector takes what is left.
    const before = engine;
    engine = undefined;
    before?.close();
    const { adapter, is_software } = await described();
    const next = await Engine.open(plain, is_software, adapter);
    // Another open may have been quicker.
    engine?.close();
    engine = next;
    return { ...JSON.parse(next.adapter()), adapter };
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
  // A model from an address. `settings` are those of browser-node/src/request.rs `Load`.
  async load({ url, settings = {} }, happened, signal) {
    const start = performance.now();
    const response = await fetch(url, { signal });
    if (!response.ok) {
      throw new Error(`${url}: status ${response.status}`);
    }
    const bytes = bytes_of(response);
    let told = 0;
    const progress = (bytes, bytes_all) => {
      if (bytes - told >= TELL_BYTES || bytes === bytes_all) {
        told = bytes;
        happened({ bytes, bytes_all });
      }
    };
    const loaded = await opened().load(response.body, bytes, JSON.stringify(settings), progress, signal);
    return { ...JSON.parse(loaded), ms: performance.now() - start };
  },
  async encode({ text, whole = true, special = false }) {
    return { tokens: [...opened().encode(text, whole, special)] };
  },
  // An answer as text, either to `messages` in the words of the file's template or to a plain `prompt`, not to both;
  // `stop` is a list of texts; the rest is browser-node/src/request/chat.rs `Chat`. `kind` of an event is text,
  // reasoning or tool_call, `ids` are the tokens that its text stands for, `tokens` counts all so far; with
  // `alternatives` there are `logprobs`. The result's `text` is what was said in this call.
  async chat(request, happened, signal) {
    let text = "";
    let first_ms;
    const start = performance.now();
    const came = (written) => {
      const event = JSON.parse(written);
      const at_ms = performance.now() - start;
      if (event.ids !== undefined) {
        first_ms ??= at_ms;
      }
      if (event.kind === "text") {
        text += event.text;
      }
      happened({ ...event, at_ms });
    };
    const chatted = await opened().chat(JSON.stringify(request), came, signal);
    return { ...JSON.parse(chatted), text, first_ms, ms: performance.now() - start };
  },
  // An answer in tokens, to `tokens`, or to `prompt` as encode reads it. The rest is browser-node/src/request.rs
  // `Generate`; with `alternatives` events have log_probability and alternatives, as report.rs `Told` has them.
  async generate({ prompt, whole = true, special = false, ...request }, happened, signal) {
    const tokens = request.tokens ?? [...opened().encode(prompt, whole, special)];
    const text = new TextDecoder();
    let answer = "";
    let count = 0;
    let first_ms;
    const start = performance.now();
    const drawn = (token, bytes, told) => {
      count += 1;
      first_ms ??= performance.now() - start;
      const piece = text.decode(bytes, { stream: true });
      answer += piece;
      const known = told === undefined ? {} : JSON.parse(told);
      happened({ token, text: piece, tokens: count, at_ms: performance.now() - start, ...known });
    };
    const answered = await opened().generate(JSON.stringify({ ...request, tokens }), drawn, signal);
    const ms = performance.now() - start;
    const rest = text.decode();
    if (rest !== "") {
      answer += rest;
      happened({ text: rest, tokens: count, at_ms: ms });
    }
    return { ...JSON.parse(answered), text: answer, prompt_tokens: tokens.length, first_ms, ms };
  },
  // The row of logits behind each of `tokens` (32-bit floats, little-endian, one row after another), posted to `to`.
  async logits({ tokens, to }, _, signal) {
    let rows = [];
    let bytes = 0;
    const post = () => {
      // Synchronous, so that no more rows come than are taken; a worker has no page to freeze.
      const request = new XMLHttpRequest();
      request.open("POST", to, false);
      request.send(new Blob(rows));
      if (request.status !== 204) {
        throw new Error(`${to}: status ${request.status}`);
      }
      rows = [];
      bytes = 0;
    };
    const start = performance.now();
    await opened().logits(new Uint32Array(tokens), (row) => {
      rows.push(row);
      bytes += row.byteLength;
      if (bytes >= POST_BYTES) {
        post();
      }
    }, signal);
    if (bytes > 0) {
      post();
    }
    return { rows: tokens.length, ms: performance.now() - start };
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
