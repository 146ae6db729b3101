// The chat page in a real Chromium. HELIOGRAPH_SCENE says what to play; exit status 1 if something is not as it must be.
//
// HELIOGRAPH_BASE_URL is the relay, HELIOGRAPH_SCREENSHOTS a folder for pictures, HELIOGRAPH_CHROMIUM the browser, and
// HELIOGRAPH_CUES a folder in which a scene says that the network may go on.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.HELIOGRAPH_NODE_MODULES}/`);
const { chromium } = require('playwright-core');

const base = process.env.HELIOGRAPH_BASE_URL;
const screenshots = process.env.HELIOGRAPH_SCREENSHOTS;
const cue = (name, text = '') => writeFileSync(`${process.env.HELIOGRAPH_CUES}/${name}`, text);
// A small model may go round in circles up to its limit of tokens, slowly on a busy machine.
const TIMEOUT = 240_000;
const WIDE = { width: 1280, height: 860 };
const PHONE = { width: 390, height: 844 };

const browser = await chromium.launch({
  executablePath: process.env.HELIOGRAPH_CHROMIUM,
  chromiumSandbox: false,
  args: [
    '--enable-unsafe-webgpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
const context = await browser.newContext({ viewport: WIDE, permissions: ['clipboard-read', 'clipboard-write'] });
context.setDefaultTimeout(TIMEOUT);
const page = await context.newPage();

// Whatever the page complains about, and whatever it asks of others.
const complaints = [];
page.on('console', (message) => {
  if (['error', 'warning'].includes(message.type())) {
    complaints.push(`${message.type()}: ${message.text()} (${message.location().url})`);
  }
});
page.on('pageerror', (error) => complaints.push(`exception: ${error}`));
page.on('request', (request) => {
  const { protocol, origin } = new URL(request.url());
  if (!['data:', 'blob:'].includes(protocol) && origin !== base) {
    complaints.push(`asked a stranger: ${request.url()}`);
  }
});
// What passed over each of the page's WebSockets, oldest first.
const sockets = [];
page.on('websocket', (socket) => {
  const passed = { said: [], heard: [], entries: [] };
  sockets.push(passed);
  socket.on('framesent', ({ payload }) => passed.said.push(JSON.parse(payload)));
  socket.on('framereceived', ({ payload }) => {
    if (typeof payload === 'string') {
      passed.heard.push(JSON.parse(payload));
    } else {
      passed.entries.push(...entriesOf(payload));
    }
  });
});

/// The entries of a token frame, as PROTOCOL.md has them.
function entriesOf(frame) {
  const entries = [];
  for (let at = 4; at < frame.length; ) {
    const tokens = frame.readUInt16LE(at + 10);
    const length = frame.readUInt32LE(at + 12);
    const from = at + 16 + 4 * tokens;
    entries.push({ offset: frame.readUInt32LE(at + 4), bytes: frame.subarray(from, from + length) });
    at = from + length;
  }
  return entries;
}

/// The answer that the page's sockets brought, put together by offset.
function brought(passed) {
  let answer = Buffer.alloc(0);
  for (const { offset, bytes } of passed.flatMap(({ entries }) => entries)) {
    assert(offset <= answer.length, `bytes are missing before ${offset}`);
    const known = answer.subarray(offset, offset + bytes.length);
    assert(known.equals(bytes.subarray(0, known.length)), `what came again at ${offset} differs`);
    answer = Buffer.concat([answer, bytes.subarray(known.length)]);
  }
  return answer;
}

await page.addInitScript(() => {
  document.addEventListener('securitypolicyviolation', (event) => {
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
  });
  // How long the newest answer was at each change of the page.
  globalThis.growth = [];
  new MutationObserver(() => {
    const answers = document.querySelectorAll('[data-testid="message-assistant"]');
    const length = answers[answers.length - 1]?.textContent.length ?? 0;
    if (length !== globalThis.growth.at(-1)) {
      globalThis.growth.push(length);
    }
  }).observe(document, { subtree: true, childList: true, characterData: true });
});

const part = (id) => page.getByTestId(id);
const composer = part('composer');
const answers = part('message-assistant');
const questions = part('message-user');

async function open() {
  await page.goto(`${base}/`);
  await composer.waitFor();
}

async function ask(text) {
  await page.evaluate(() => {
    globalThis.growth = [];
  });
  await composer.fill(text);
  await composer.press('Enter');
}

/// Waits until so many answers are whole: each then has its line about model and speed.
async function finished(count) {
  await part('answer-meta').nth(count - 1).waitFor();
  await part('stop').waitFor({ state: 'hidden' });
}

async function grown(characters) {
  await page.waitForFunction((wanted) => globalThis.growth.some((length) => length > wanted), characters);
}

/// Both widths, light and dark.
async function picture(name) {
  for (const viewport of [WIDE, PHONE]) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: `${screenshots}/${name}-${viewport.width}-${colorScheme}.png` });
    }
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert(overflow <= 0, `${name} is ${overflow} px too wide at ${viewport.width}`);
  }
  await page.setViewportSize(WIDE);
  await page.emulateMedia({ colorScheme: 'light' });
}

const slotsFree = () =>
  page.evaluate(async () => {
    const models = await (await fetch('/v1/models')).json();
    return models.data.find(({ id }) => id === 'smollm2-135m').slots_free;
  });

async function until(what, holds) {
  for (const end = Date.now() + TIMEOUT; Date.now() < end; ) {
    if (await holds()) {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`never: ${what}`);
}

const scenes = {
  // A person's first minutes: ask, watch, stop, ask again, reload, begin anew.
  async conversation() {
    await open();
    await picture('empty');

    await ask('Name three primary colours.');
    await finished(1);
    const growth = await page.evaluate(() => globalThis.growth);
    assert(new Set(growth).size >= 5, `it grew in ${growth.length} steps: ${growth}`);
    assert.equal(await questions.count(), 1);
    assert.match(await part('answer-meta').innerText(), /SmolLM2|smollm2/);
    assert.match(await part('answer-meta').innerText(), /\d/);
    await picture('answered');

    // Stop, by button. A story may end before anybody can stop it; then ask for another.
    let asked = 1;
    let stopped = false;
    while (!stopped && asked < 5) {
      await ask('Write a very long story with many chapters about the sea. Do not stop before chapter twenty.');
      asked += 1;
      await grown(40);
      stopped = await part('stop').click({ timeout: 5_000 }).then(() => true, () => false);
    }
    assert(stopped, 'every story ended before it could be stopped');
    await part('stop').waitFor({ state: 'hidden' });
    await until('the node has stopped and its slots are free', async () => (await slotsFree()) === 2);
    assert((await answers.last().innerText()).length > 20, 'what had come stays');
    await picture('stopped');

    // Stop, by keyboard.
    await ask('Write a very long list of all the rivers you know, with a paragraph about each.');
    asked += 1;
    await grown(40);
    await page.keyboard.press('Escape');
    await part('stop').waitFor({ state: 'hidden' });
    await until('the slots are free again', async () => (await slotsFree()) === 2);

    // Ask again; Shift+Enter breaks the line and does not send.
    await composer.fill('Name three');
    await composer.press('Shift+Enter');
    assert.equal(await questions.count(), asked);
    await composer.press('End');
    await composer.pressSequentially('primary colours.');
    const before = await part('answer-meta').count();
    await part('send').click();
    asked += 1;
    await finished(before + 1);
    assert.equal(await questions.count(), asked);
    assert.match(await questions.last().innerText(), /Name three\s*\n\s*primary colours\./);

    // Only the browser keeps the conversation, and it does.
    const texts = await answers.allInnerTexts();
    await composer.fill('a draft');
    await page.reload();
    await composer.waitFor();
    await answers.nth(texts.length - 1).waitFor();
    assert.equal(await questions.count(), asked);
    assert.deepEqual(await answers.allInnerTexts(), texts);
    assert.equal(await composer.inputValue(), 'a draft');

    await part('new-chat').click();
    await until('the page is empty', async () => (await questions.count()) === 0);
    await page.reload();
    await composer.waitFor();
    assert.equal(await questions.count(), 0);
  },

  // No node: the place in the queue is told, and the answer comes when a rig joins (the test starts one).
  async waiting() {
    await open();
    await ask('Name three primary colours.');
    await part('queue-place').waitFor();
    assert.match(await part('queue-place').innerText(), /^Next in line for Demo\. No node serves it right now/);
    await picture('waiting');
    await finished(1);
    assert.equal(await part('queue-place').count(), 0);
    assert((await answers.last().innerText()).trim());
  },

  // The node is hostile: what it answers is shown as text and does nothing. Its second answer breaks off.
  async hostile() {
    await open();
    const tag = '<img src="x" onerror="globalThis.owned = 1"> <b>bold?</b>';
    await ask(tag);
    await finished(1);
    assert((await questions.first().innerText()).includes(tag), 'what a person writes is text too');
    const found = await page.evaluate(() => {
      const messages = document.querySelectorAll('[data-testid^="message-"]');
      const all = [...messages].flatMap((message) => [...message.querySelectorAll('*')]);
      return {
        tags: all.map((element) => element.localName),
        handlers: all.flatMap((element) => element.getAttributeNames().filter((name) => name.startsWith('on'))),
        links: all.filter((element) => element.localName === 'a').map((element) => element.getAttribute('href')),
        relations: all.filter((element) => element.localName === 'a').map((element) => element.rel),
      };
    });
    for (const tag of ['script', 'img', 'iframe', 'style', 'object', 'embed', 'form', 'input', 'link', 'meta', 'base', 'video']) {
      assert(!found.tags.includes(tag), `<${tag}> in a message`);
    }
    assert.deepEqual(found.handlers, []);
    for (const link of found.links) {
      assert.match(link, /^https?:/, `a link to ${link}`);
    }
    assert(found.links.includes('https://example.com/good'), `the good link is one: ${found.links}`);
    assert(found.relations.every((relation) => relation.includes('noopener')), `${found.relations}`);
    // Markdown itself works.
    for (const tag of ['strong', 'code', 'pre', 'li']) {
      assert(found.tags.includes(tag), `no <${tag}>`);
    }
    assert.equal(await page.evaluate(() => globalThis.owned), undefined);
    assert.match(await answers.first().innerText(), /<script>/, 'raw HTML is shown as the text that it is');
    await picture('hostile');

    // The node vanishes in mid-answer: what it said stays, and the answer waits for another node to go on with it.
    await ask('Again?');
    await part('queue-place').waitFor();
    assert.match(await part('queue-place').innerText(), /went away\. The answer goes on when another one joins/);
    assert.match(await answers.last().innerText(), /half an ans/);
    await picture('node-lost');
    cue('node-lost');

    // The other node goes on, and then cannot.
    await part('failure').waitFor();
    await part('retry').waitFor();
    assert.match(await answers.last().innerText(), /half an answer/);
    await picture('failed');
  },

  // The only slot is busy: the place, and how long it may take.
  async line() {
    await open();
    await ask('Name three primary colours.');
    await part('queue-place').waitFor();
    const place = await part('queue-place').innerText();
    assert.match(place, /^(Next|\d+(st|nd|rd|th)) in line for Demo(\. 1 node serves it\.|, (about|up to) \d+.*\.|, a few seconds\.)$/);
    await picture('line');
    cue('line');
    await finished(1);
    assert((await answers.last().innerText()).trim());
  },

  // The relay is killed in mid-answer and comes back: a small sign meanwhile, and nothing is lost or comes twice.
  async restart() {
    await open();
    await ask('Tell me a story of five paragraphs about the sea.');
    await grown(100);
    cue('mid-answer');
    await part('reconnecting').waitFor();
    const shown = await answers.last().innerText();
    assert(shown.length > 100, 'what had come stays');
    assert.equal(await part('reconnecting').count(), 1, 'one sign is enough');
    assert(await part('stop').isVisible(), 'one can stop it all the same');
    await until('screen readers hear of it', async () => /Reconnecting/.test(await part('sayings').textContent()));
    await picture('reconnecting');
    cue('reconnecting');
    await finished(1);
    assert.equal(await part('reconnecting').count(), 0);

    const used = sockets.filter(({ heard }) => heard.some(({ type }) => type === 'submitted'));
    assert.equal(used.length, 2, 'one socket before the loss, one after it');
    const [before, after] = used;
    const had = brought([before]);
    const [resume] = after.said.filter(({ type }) => type === 'resume');
    assert.equal(resume.offset, had.length, 'the page asks for what it lacks');
    const attempts = used.map(({ heard }) => heard.find(({ type }) => type === 'assigned').attempt);
    assert.deepEqual(attempts, [1, 1], 'the same node goes on');
    const whole = brought(used);
    assert(whole.length > had.length, 'it went on after the restart');
    const [completed] = after.heard.filter(({ type }) => type === 'completed');
    assert.equal(whole.length, completed.offset);
    const kept = await page.evaluate(() => JSON.parse(localStorage.getItem('heliograph.conversation')));
    assert.equal(kept.messages.at(-1).body.assistant.text, whole.toString(), 'every byte once');
    // What the rig produced is in its log, as a hash.
    const hash = createHash('sha256').update(whole).digest('hex');
    cue('answer', `job=${completed.job} attempt=1 from=0 to=${whole.length} hash=AnswerHash(${hash})`);
    await picture('reconnected');

    // The browser itself says that it could not reach the relay; that is so.
    const excused = /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|WebSocket connection to/;
    complaints.splice(0, complaints.length, ...complaints.filter((complaint) => !excused.test(complaint)));
  },
};

let failed = false;
try {
  await scenes[process.env.HELIOGRAPH_SCENE]();
  assert.deepEqual(complaints, []);
} catch (error) {
  failed = true;
  console.error(error.stack);
  console.error(complaints.join('\n'));
  console.error(await page.locator('body').innerText().catch(() => ''));
  await page.screenshot({ path: `${screenshots}/broken-${process.env.HELIOGRAPH_SCENE}.png` }).catch(() => {});
} finally {
  await browser.close();
}
process.exitCode = failed ? 1 : 0;
