// Measures wllama. `measure` is called by measure.mjs, once a page.

import { Wllama } from '/npm/@wllama/wllama/esm/index.js';
import { answered, measured } from '/pages/clock.js';

// Lines of llama.cpp's log that tell on what it runs.
const TELLING = /webgpu|offload|buffer size|gpu/i;

async function load(plan, log) {
  const note = (...parts) => {
    const line = parts.join(' ');
    if (TELLING.test(line)) {
      log.push(line);
    }
    console.log(...parts);
  };
  const engine = new Wllama(
    { default: '/npm/@wllama/wllama/src/wasm/wllama.wasm' },
    { logger: { debug: note, log: note, warn: note, error: note } },
  );
  // Its other build would come from a server of somebody else.
  engine.setCompat(null);
  const weights = await (await fetch(plan.gguf)).blob();
  await engine.loadModel([weights], {
    n_gpu_layers: plan.gpuLayers,
    n_threads: 1,
    n_parallel: 1,
    n_ctx: plan.contextTokens,
    seed: 1,
  });
  return engine;
}

/// One greedy answer, timed from here.
async function ask(engine, prompt, tokens, more = {}) {
  let timings = null;
  const answer = await answered(async (came) => {
    await engine.createCompletion({
      prompt,
      max_tokens: tokens,
      temperature: 0,
      top_k: 1,
      ignore_eos: true,
      cache_prompt: false,
      stream: true,
      onData(chunk) {
        timings = chunk.timings ?? timings;
        // The last chunk brings no token, only why the answer ended.
        if (chunk.choices?.[0] && chunk.choices[0].finish_reason == null) {
          came(chunk);
        }
      },
      ...more,
    });
  });
  // Its own count of the prompt: a text cut in mid-word may have one token more.
  return { ...answer, promptTokens: timings?.prompt_n };
}

globalThis.measure = async (plan) => {
  const log = [];
  const told = { log };
  globalThis.soFar = told;
  try {
    const engine = await load(plan, log);
    told.threads = engine.getNumThreads();
    told.llamaCpp = Wllama.getLibllamaVersion();
    // Weights in no other buffer than the processor's: then there is nothing to measure that is not measured already.
    if (plan.gpuLayers > 0 && !log.some((line) => /webgpu.* model buffer size/i.test(line))) {
      told.note = 'asked for WebGPU, llama.cpp put every layer on the processor';
      return told;
    }
    const text = (tokens) => plan.prompt.texts.slice(0, tokens).join('');
    // The tokens of the answer, untimed, which is the warm-up too.
    const words = await ask(engine, text(plan.prompts[0]), plan.answerTokens, { logprobs: 1 });
    told.text = words.chunks.map((chunk) => chunk.choices[0].text).join('');
    told.ids = words.chunks.flatMap((chunk) => chunk.choices[0].logprobs?.content?.map(({ id }) => id) ?? []);
    await measured(plan, told, (tokens, answer) => ask(engine, text(tokens), answer));
    return told;
  } catch (error) {
    return { ...told, error: String(error) };
  }
};
globalThis.ready = true;
