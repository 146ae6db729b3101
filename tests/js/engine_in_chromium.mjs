// The engine for WebGPU in a worker of a real Chromium: makes calls of browser-node/worker/worker.js one after the other
// and prints one line of JSON, what came of each. Exit status 1 only where the calls could not be made.
//
//   HELIOGRAPH_ENGINE         the folder with worker.js, browser_node.js and the wasm module
//   HELIOGRAPH_JOB            a file with the job:
//     { "files":   { NAME: PATH }   served as /files/NAME
//       "outputs": { NAME: PATH }   what is posted to /outputs/NAME is appended to it
//       "seconds": 900              the longest that all calls may take
//       "calls": [ { "call": NAME, …,
//                    "meanwhile": [ { "when": { FIELD: AT_LEAST }, "call": {…} or "cancel" } ] } ] }
//   HELIOGRAPH_CHROMIUM, HELIOGRAPH_NODE_MODULES   where the browser and playwright-core are
//
// The line: { "results": [ { "result" or "error", "events": […], "ms", "meanwhile": […] } ] }
// A call that fails does not keep the others from being made.

import { createReadStream, createWriteStream, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { extname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';

const require = createRequire(`${process.env.HELIOGRAPH_NODE_MODULES}/`);
const { chromium } = require('playwright-core');

const { files = {}, outputs = {}, seconds = 900, calls } = JSON.parse(readFileSync(process.env.HELIOGRAPH_JOB, 'utf8'));

const TYPES = { '.js': 'text/javascript', '.wasm': 'application/wasm' };
const PAGE = '<!doctype html><link rel="icon" href="data:,"><title>engine</title>';
// A page of its own origin and process has the finer clock.
const ISOLATED = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

/** Answers one request; only names that the job or the engine's folder has lead to a file. */
async function serve(request, response) {
  const [, kind, name] = new URL(request.url, 'http://x').pathname.split('/');
  if (request.method === 'POST' && kind === 'outputs' && Object.hasOwn(outputs, name)) {
    await pipeline(request, createWriteStream(outputs[name], { flags: 'a' }));
    response.writeHead(204).end();
    return;
  }
  let path;
  if (kind === 'files' && Object.hasOwn(files, name)) {
    path = files[name];
  } else if (kind === 'engine' && Object.hasOwn(TYPES, extname(name))) {
    path = join(process.env.HELIOGRAPH_ENGINE, name);
  } else if (kind === '') {
    response.writeHead(200, { 'Content-Type': 'text/html', ...ISOLATED }).end(PAGE);
    return;
  }
  const stat = path && statSync(path, { throwIfNoEntry: false });
  if (!stat) {
    response.writeHead(404, ISOLATED).end();
    return;
  }
  response.writeHead(200, {
    'Content-Type': TYPES[extname(path)] ?? 'application/octet-stream',
    'Content-Length': stat.size,
    ...ISOLATED,
  });
  await pipeline(createReadStream(path), response);
}

const server = createServer((request, response) => {
  // Who goes away in the middle, as a cancelled download does, is no fault of ours.
  serve(request, response).catch(() => response.destroy());
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const browser = await chromium.launch({
  executablePath: process.env.HELIOGRAPH_CHROMIUM,
  chromiumSandbox: false,
  args: [
    '--enable-unsafe-webgpu',
    // A software adapter may take longer for a step than the watchdog waits for a card.
    '--disable-gpu-watchdog',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
const page = await browser.newPage();
page.on('console', (message) => process.stderr.write(`${message.type()}: ${message.text()}\n`));
page.on('pageerror', (error) => process.stderr.write(`exception: ${error}\n`));
page.on('crash', () => fail('the page crashed'));

function fail(why) {
  process.stderr.write(`${why}\n`);
  process.exit(1);
}
const limit = setTimeout(() => fail(`the calls took longer than ${seconds} s`), seconds * 1000);

await page.goto(`http://127.0.0.1:${server.address().port}/`);
const results = await page.evaluate(makeCalls, calls);
clearTimeout(limit);
await browser.close();
server.close();
process.stdout.write(`${JSON.stringify({ results })}\n`);

/** Runs in the page. */
async function makeCalls(calls) {
  const worker = new Worker('/engine/worker.js', { type: 'module' });
  const waiting = new Map();
  const broken = new Promise((_, reject) => {
    worker.onerror = (error) => reject(new Error(`the worker failed: ${error.message}`));
  });
  worker.onmessage = ({ data }) => waiting.get(data.id)?.(data);
  let last_id = 0;

  function call({ meanwhile = [], ...what }) {
    last_id += 1;
    const id = last_id;
    const start = performance.now();
    const came = { events: [], meanwhile: [] };
    const due = [...meanwhile];
    const done = new Promise((resolve) => {
      waiting.set(id, (data) => {
        if (data.event === undefined) {
          waiting.delete(id);
          const { result, error } = data;
          resolve({ ...(error === undefined ? { result } : { error }), ...came, ms: performance.now() - start });
          return;
        }
        came.events.push({ ...data.event, ms: performance.now() - start });
        const isDue = ({ when }) => Object.entries(when).every(([field, least]) => data.event[field] >= least);
        for (const next of due.filter(isDue)) {
          due.splice(due.indexOf(next), 1);
          if (next.call === 'cancel') {
            worker.postMessage({ id, cancel: true });
          } else {
            came.meanwhile.push(call(next.call));
          }
        }
      });
    });
    worker.postMessage({ id, ...what });
    return done.then(async (result) => ({ ...result, meanwhile: await Promise.all(result.meanwhile) }));
  }

  const results = [];
  for (const next of calls) {
    results.push(await Promise.race([call(next), broken]));
  }
  return results;
}
