// The official `openai` package, unmodified, against a running relay. Each case is a function; its name says what holds.
//
// HELIOGRAPH_BASE_URL, HELIOGRAPH_API_KEY and HELIOGRAPH_MODEL say where. Exit status 1 if a case fails.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.HELIOGRAPH_NODE_MODULES}/`);
const { OpenAI } = require('openai');

const base = process.env.HELIOGRAPH_BASE_URL;
const apiKey = process.env.HELIOGRAPH_API_KEY;
const model = process.env.HELIOGRAPH_MODEL;
const messages = [{ role: 'user', content: 'Name three primary colours.' }];
// Biases against the tokens that end an answer: with them it has exactly max_tokens tokens.
const ENDLESS = { 0: -100, 2: -100 };

const options = { baseURL: `${base}/v1`, maxRetries: 0, timeout: 120_000 };
const client = new OpenAI({ ...options, apiKey });

const ask = (fields) => client.chat.completions.create({ model, messages, temperature: 0, ...fields });

// The error of a request that must be refused.
async function refusal(kind, fields) {
  let answer;
  try {
    answer = await ask(fields);
  } catch (error) {
    assert(error instanceof kind, error);
    return error;
  }
  assert.fail(`not refused: ${JSON.stringify(answer)}`);
}

async function read(stream) {
  let [text, reason, usage, pieces] = ['', null, null, 0];
  for await (const chunk of stream) {
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      assert.equal(reason, null, 'nothing follows the finish reason');
      text += choice.delta.content ?? '';
      pieces += choice.delta.content ? 1 : 0;
      reason = choice.finish_reason;
    }
  }
  return { text, reason, usage, pieces };
}

const cases = {
  async 'a streamed answer is the whole one in pieces'() {
    const whole = await ask({ max_tokens: 40 });
    const [choice] = whole.choices;
    assert(choice.message.content.trim());
    assert.equal(choice.message.role, 'assistant');
    const { usage: cost } = whole;
    assert.equal(cost.total_tokens, cost.prompt_tokens + cost.completion_tokens);
    const stream = await ask({ max_tokens: 40, stream: true, stream_options: { include_usage: true } });
    const { text, reason, usage, pieces } = await read(stream);
    assert.equal(text, choice.message.content);
    assert.equal(reason, choice.finish_reason);
    assert(pieces >= 5);
    assert.deepEqual(usage, cost);
  },

  async 'the streaming helper gathers the same text'() {
    const stream = client.chat.completions.stream({ model, messages, temperature: 0, max_tokens: 24 });
    let grown = '';
    stream.on('content', (delta) => {
      grown += delta;
    });
    const text = await stream.finalContent();
    assert.equal(grown, text);
    assert.equal(text, (await ask({ max_tokens: 24 })).choices[0].message.content);
  },

  async 'stop ends the answer before the string'() {
    const plain = (await ask({ max_tokens: 40 })).choices[0].message.content;
    const cut = plain.slice(plain.length / 2, plain.length / 2 + 6);
    const { text, reason } = await read(await ask({ max_tokens: 40, stop: [cut], stream: true }));
    assert.equal(text, plain.slice(0, plain.indexOf(cut)));
    assert.equal(reason, 'stop');
  },

  async 'max_tokens ends with length'() {
    const answer = await ask({ max_tokens: 7, logit_bias: ENDLESS });
    assert.equal(answer.choices[0].finish_reason, 'length');
    assert.equal(answer.usage.completion_tokens, 7);
  },

  async 'the same seed gives the same text'() {
    const drawn = async (seed) => {
      const answer = await ask({ temperature: 1.3, seed, max_tokens: 32, logit_bias: ENDLESS });
      return answer.choices[0].message.content;
    };
    assert.equal(await drawn(7), await drawn(7));
  },

  async 'a JSON schema binds the answer'() {
    const schema = {
      type: 'object',
      properties: { city: { enum: ['Paris', 'Rome'] }, people: { type: 'integer' } },
      required: ['city', 'people'],
      additionalProperties: false,
    };
    const answer = await ask({
      messages: [{ role: 'user', content: 'Describe a city as JSON.' }],
      response_format: { type: 'json_schema', json_schema: { name: 'city', schema, strict: true } },
      max_tokens: 200,
    });
    const [choice] = answer.choices;
    assert.equal(choice.finish_reason, 'stop');
    const value = JSON.parse(choice.message.content);
    assert(['Paris', 'Rome'].includes(value.city));
    assert(Number.isInteger(value.people));
  },

  async 'logprobs are told for each token'() {
    const answer = await ask({ max_tokens: 4, logprobs: true, top_logprobs: 2, logit_bias: ENDLESS });
    const tokens = answer.choices[0].logprobs.content;
    assert.equal(tokens.length, 4);
    assert(tokens.every((token) => token.logprob <= 0 && token.top_logprobs.length === 2));
  },

  async 'a stream can be aborted'() {
    const stream = await ask({ max_tokens: 2000, stream: true, logit_bias: ENDLESS });
    let pieces = 0;
    for await (const chunk of stream) {
      pieces += chunk.choices[0]?.delta.content ? 1 : 0;
      if (pieces === 3) {
        break; // the package aborts the request
      }
    }
    assert.equal(pieces, 3);
  },

  async 'a wrong key is 401'() {
    const wrong = new OpenAI({ ...options, apiKey: 'hg-wrong' });
    await assert.rejects(wrong.models.list(), OpenAI.AuthenticationError);
    await assert.rejects(wrong.chat.completions.create({ model, messages }), OpenAI.AuthenticationError);
  },

  async 'an unknown model is 404'() {
    const error = await refusal(OpenAI.NotFoundError, { model: 'gpt-unknown' });
    assert.equal(error.code, 'model_not_found');
  },

  async 'a context too long is 400 and names both lengths'() {
    const context = (await client.models.retrieve(model)).context;
    const long = [{ role: 'user', content: 'word '.repeat(context + 1000) }];
    const error = await refusal(OpenAI.BadRequestError, { messages: long, stream: true });
    assert.equal(error.code, 'context_length_exceeded');
    const numbers = error.message.match(/\d+/g).map(Number);
    assert(numbers.includes(context) && numbers.some((n) => n > context), error.message);
  },

  async 'an oversized body is 413'() {
    const error = await refusal(OpenAI.APIError, { messages: [{ role: 'user', content: 'x'.repeat(5 << 20) }] });
    assert.equal(error.status, 413);
  },

  async 'malformed JSON is 400'() {
    const response = await fetch(`${base}/v1/chat/completions`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${apiKey}`, 'Content-Type': 'application/json' },
      body: '{"model": ',
    });
    assert.equal(response.status, 400);
    assert.equal((await response.json()).error.type, 'invalid_request_error');
  },

  async 'what is not done is refused by name'() {
    for (const fields of [{ n: 2 }, { tools: [{ type: 'custom', custom: { name: 'f' } }] }, { frobnicate: 1 }]) {
      const [name] = Object.keys(fields);
      const error = await refusal(OpenAI.BadRequestError, fields);
      assert(error.message.includes(name), error.message);
    }
  },

  async 'models say what there is'() {
    const models = (await client.models.list()).data;
    const demo = models.find(({ id }) => id === model);
    assert.equal(demo.tier, 'demo');
    assert.equal(demo.class, 'rig');
    assert.equal(demo.available, 1);
    assert(demo.context > 1000);
  },
};

let failed = 0;
for (const [name, run] of Object.entries(cases)) {
  try {
    await run();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.error(`FAILED ${name}\n${error.stack}`);
  }
}
const count = Object.keys(cases).length;
const { version } = JSON.parse(readFileSync(`${process.env.HELIOGRAPH_NODE_MODULES}/openai/package.json`));
console.log(`${count - failed} of ${count} hold with openai ${version}`);
process.exitCode = failed ? 1 : 0;
