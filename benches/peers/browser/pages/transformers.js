// Measures transformers.js on WebGPU. `measure` is called by measure.mjs, once a page.

import {
  AutoModelForCausalLM,
  BaseStreamer,
  StoppingCriteria,
  Tensor,
  env,
} from '/npm/@huggingface/transformers/dist/transformers.web.js';
import { answered, measured } from '/pages/clock.js';
import { counting } from '/pages/counting.js';

// Of how many tokens of an answer it is asked whether this model would have said them too.
const COMPARED = 32;

env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = '/onnx/';
env.useBrowserCache = false;
env.backends.onnx.wasm.wasmPaths = '/npm/onnxruntime-web/dist/';
env.backends.onnx.wasm.numThreads = 1;

function load(plan, options = {}) {
  return AutoModelForCausalLM.from_pretrained(plan.name, {
    device: 'webgpu',
    dtype: 'q4',
    session_options: options,
  });
}

function inputs(ids) {
  const tensor = (values) => new Tensor('int64', BigInt64Array.from(values, BigInt), [1, ids.length]);
  return { input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)) };
}

/// Tells of each new token, not of the prompt.
class Watch extends BaseStreamer {
  constructor(came) {
    super();
    this.came = came;
    this.prompted = false;
  }

  put(tokens) {
    if (this.prompted) {
      this.came(Number(tokens[0][0]));
    }
    this.prompted = true;
  }

  end() {}
}

/// Ends an answer when its time is up, but not before there is a figure in it: the first token is the prompt's.
class Deadline extends StoppingCriteria {
  constructor(promptTokens, seconds) {
    super();
    this.least = promptTokens + 3;
    this.end = performance.now() + seconds * 1000;
  }

  _call(texts) {
    return texts.map(({ length }) => length >= this.least && performance.now() > this.end);
  }
}

/// One greedy answer, timed from here. It breaks off when time is up.
async function ask(model, ids, tokens, seconds = Infinity, each = () => {}) {
  const answer = await answered((came) => {
    const streamer = new Watch((token) => {
      came(token);
      each(token);
    });
    return model.generate({
      ...inputs(ids),
      max_new_tokens: tokens,
      do_sample: false,
      streamer,
      stopping_criteria: [new Deadline(ids.length, seconds)],
    });
  });
  return { ...answer, promptTokens: ids.length };
}

/// Of so many tokens that llama.cpp said after this prompt, how many this model finds the likeliest too, told the same
/// tokens before each.
async function agreement(model, prompt, said) {
  const { logits } = await model.forward({
    ...inputs([...prompt, ...said]),
    num_logits_to_keep: new Tensor('int64', [BigInt(said.length + 1)], []),
  });
  const [, rows, vocabulary] = logits.dims;
  let same = 0;
  for (const [index, token] of said.entries()) {
    const row = logits.data.subarray((rows - said.length - 1 + index) * vocabulary, (rows - said.length + index) * vocabulary);
    same += row.reduce((best, value, at) => (value > row[best] ? at : best), 0) === token;
  }
  return { positions: said.length, same };
}

/// Where ONNX Runtime put the nodes, in its own words, and what one token costs in calls of WebGPU.
async function proof(plan, complaints) {
  const before = complaints.length;
  const model = await load(plan, { logSeverityLevel: 0 });
  const placed = complaints.slice(before).flatMap((line) => line.match(/Node\(s\) placed on .*/) ?? []);
  const counter = counting();
  const steps = [];
  await ask(model, plan.prompt.ids.slice(0, 8), 3, Infinity, () => steps.push(counter.take()));
  counter.stop();
  await model.dispose();
  // The first is the prompt's, the second may still compile.
  return { placed, perToken: steps[steps.length - 1] };
}

globalThis.measure = async (plan) => {
  const lines = [];
  for (const name of ['debug', 'log', 'info', 'warn', 'error']) {
    const said = console[name].bind(console);
    console[name] = (...parts) => {
      lines.push(parts.map(String).join(' '));
      said(...parts);
    };
  }
  const told = {};
  globalThis.soFar = told;
  try {
    Object.assign(told, await proof(plan, lines));
    const model = await load(plan);
    const prompt = (tokens) => plan.prompt.ids.slice(0, tokens);
    await measured(plan, told, (tokens, answer) => ask(model, prompt(tokens), answer, plan.seconds));
    if (plan.said.length > 0) {
      told.agreement = await agreement(model, prompt(plan.prompts[0]), plan.said.slice(0, COMPARED));
    }
    return told;
  } catch (error) {
    return { ...told, error: String(error?.stack ?? error) };
  }
};
globalThis.ready = true;
