// Measures engines of other people in headless Chromium: a prompt of some lengths, and an answer, each by the wall clock
// of the page. One engine after another, one model after another, each in a new browser.
//
// HELIOGRAPH_NODE_MODULES has playwright-core, HELIOGRAPH_CHROMIUM is the browser.
// One argument, JSON: {modules: FOLDER, pages: FOLDER, engines: ['wllama', 'transformers.js'], models: [{name, gguf: FILE, onnx: FOLDER}, …],
// prompts: [TOKENS, …], answerTokens, rounds, seconds, contextTokens, minutes}. `seconds` is how long one figure may take,
// `minutes` how long one engine with one model.
// Prints one line of JSON for each engine and model, as its figures come.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname } from 'node:path';

import { serve } from './server.mjs';

const require = createRequire(`${process.env.HELIOGRAPH_NODE_MODULES}/`);
const { chromium } = require('playwright-core');
const plan = JSON.parse(process.argv[2]);

const FLAGS = [
  '--enable-unsafe-webgpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

// llama.cpp's line about weights that lie in a GPU's memory.
const ON_GPU = /webgpu.* model buffer size/i;

const version = (name) => JSON.parse(readFileSync(`${plan.modules}/${name}/package.json`, 'utf8')).version;

/// What the browser says of its WebGPU adapter.
const adapterOf = (page) =>
  page.evaluate(async () => {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) {
      return null;
    }
    const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info;
    const name = [vendor, architecture, device, description].filter((part) => part !== '').join(' ');
    const features = [...adapter.features].filter((name) => ['shader-f16', 'subgroups'].includes(name));
    return { name, fallback: isFallbackAdapter, features };
  });

const after = (seconds) =>
  new Promise((resolve) => {
    setTimeout(resolve, seconds * 1000).unref();
  });

/// Runs one engine's page in a browser of its own, and gives what its `measure` gives.
async function inBrowser(folders, path, task) {
  const { server, base } = await serve(folders);
  const browser = await chromium.launch({
    executablePath: process.env.HELIOGRAPH_CHROMIUM,
    chromiumSandbox: false,
    args: FLAGS,
  });
  try {
    const context = await browser.newContext();
    const strangers = [];
    await context.route(
      (url) => !['data:', 'blob:'].includes(url.protocol) && url.origin !== base,
      (route) => {
        strangers.push(route.request().url());
        return route.abort();
      },
    );
    const page = await context.newPage();
    if (process.env.HELIOGRAPH_PEER_LOG) {
      page.on('console', (message) => process.stderr.write(`${message.text()}\n`));
    }
    page.on('pageerror', (error) => process.stderr.write(`${path}: ${error}\n`));
    await page.goto(`${base}${path}`);
    await page.waitForFunction(() => globalThis.ready === true, null, { timeout: 120_000 });
    const adapter = await adapterOf(page);
    const told = await Promise.race([
      page.evaluate((task) => globalThis.measure(task), task).catch((error) => ({ error: String(error) })),
      after(plan.minutes * 60).then(async () => ({
        // What it had found out by then; a page that is stuck does not tell.
        ...(await Promise.race([page.evaluate(() => globalThis.soFar).catch(() => ({})), after(10)])),
        error: `not done within ${plan.minutes} minutes`,
      })),
      new Promise((resolve) => page.on('crash', () => resolve({ error: 'the page crashed' }))),
    ]);
    return { ...told, adapter, chromium: browser.version(), strangers };
  } finally {
    await browser.close();
    server.close();
  }
}

const folders = (model) => ({
  npm: plan.modules,
  pages: plan.pages,
  gguf: dirname(model.gguf),
  ...(model.onnx && { onnx: dirname(model.onnx) }),
});

/// The fields that every engine's object has.
function report(peer, model, told, more) {
  const { adapter, strangers, chromium, error, note } = told;
  const figures = { prefill: told.prefill, decode_tokens_per_s: told.decode, decode_tokens: told.decodeTokens };
  const [name, fallback, features] = [adapter?.name, adapter?.fallback, adapter?.features];
  const where = { adapter: name ?? null, adapter_fallback: fallback, adapter_features: features };
  const object = { peer, model: model.name, ...where, chromium, asked_strangers: strangers, ...more, ...figures, note, error };
  process.stdout.write(`${JSON.stringify(object)}\n`);
}

const task = (model, more) => ({
  prompts: plan.prompts,
  answerTokens: plan.answerTokens,
  rounds: plan.rounds,
  seconds: plan.seconds,
  contextTokens: plan.contextTokens,
  prompt: JSON.parse(readFileSync(`${model.onnx}/prompt.json`, 'utf8')),
  ...more,
});

/// Where llama.cpp computed, in a word.
function backendOf(gpuLayers, onGpu) {
  if (onGpu) {
    return 'webgpu';
  }
  return gpuLayers === 0 ? 'cpu' : 'webgpu asked for, cpu used';
}

/// llama.cpp's own words on where the layers went decide what this run was.
async function wllama(model, gpuLayers) {
  const more = { gguf: `/gguf/${basename(model.gguf)}`, gpuLayers };
  const told = await inBrowser(folders(model), '/pages/wllama.html', task(model, more));
  const onGpu = (told.log ?? []).some((line) => ON_GPU.test(line));
  report('wllama', model, told, {
    version: version('@wllama/wllama'),
    llama_cpp: told.llamaCpp,
    asked_for: gpuLayers === 0 ? 'cpu' : 'webgpu',
    backend: backendOf(gpuLayers, onGpu),
    threads: told.threads,
    backend_proof: told.log,
    answer: told.text,
  });
  return told.ids ?? [];
}

async function transformers(model, said) {
  const more = { name: basename(model.onnx), said };
  const told = await inBrowser(folders(model), '/pages/transformers.html', task(model, more));
  report('transformers.js', model, told, {
    version: version('@huggingface/transformers'),
    onnxruntime_web: version('onnxruntime-web'),
    asked_for: 'webgpu',
    backend: told.perToken?.dispatches > 0 ? 'webgpu' : 'unknown',
    backend_proof: { placed: told.placed, per_token: told.perToken },
    same_token_as_llama_cpp: told.agreement,
  });
}

for (const model of plan.models) {
  let said = [];
  if (plan.engines.includes('wllama')) {
    said = await wllama(model, 0);
    await wllama(model, 99_999);
  }
  if (plan.engines.includes('transformers.js')) {
    await transformers(model, said);
  }
}
process.exit(0);
