// Measures node-llama-cpp as `cargo xtask bench rig` measures the rig: some chats at once, each with a prompt and an
// answer of a fixed length, in sequences of one context, which the library batches by itself.
//
// One argument, JSON: {model, threads, contextTokens, generate, staggerMs, temperature, seed, warmUp: text,
// prompts: [text, …]}.
// Prints one line, JSON: {streams: [{asked_ms, first_ms, last_ms, tokens, prompt_tokens}, …]}, times on one clock.

import {performance} from "node:perf_hooks";
import {setTimeout as sleep} from "node:timers/promises";
import {getLlama} from "node-llama-cpp";

const plan = JSON.parse(process.argv[2]);

// The back-end for this processor that the package ships, never one that is compiled here.
const llama = await getLlama({gpu: false, build: "never", maxThreads: plan.threads, logLevel: "error"});
const model = await llama.loadModel({modelPath: plan.model});
const context = await model.createContext({
    sequences: plan.prompts.length,
    contextSize: plan.contextTokens,
    threads: plan.threads
});
const sequences = plan.prompts.map(() => context.getSequence());

// The temperature and nothing else, as everybody else samples. An end of text does not end the answer.
function sampling(seed) {
    return {temperature: plan.temperature, topK: 0, topP: 1, minP: 0, seed, yieldEogToken: true};
}

async function answer(sequence, tokens, generate, seed) {
    const told = {prompt_tokens: tokens.length, asked_ms: performance.now(), first_ms: 0, last_ms: 0, tokens: 0};
    // Keeps what the prompt shares with what the sequence holds, as the library's own chats do.
    await sequence.adaptStateToTokens(tokens, false);
    const rest = tokens.slice(sequence.nextTokenIndex);
    for await (const _token of sequence.evaluate(rest, sampling(seed))) {
        const now = performance.now();
        if (told.tokens === 0)
            told.first_ms = now;
        told.last_ms = now;
        told.tokens += 1;
        if (told.tokens === generate)
            break;
    }
    return told;
}

const prompts = plan.prompts.map((text) => model.tokenize(text, true));
// Every sequence has run once, on what no prompt begins with.
const warmUp = model.tokenize(plan.warmUp);
await Promise.all(sequences.map((sequence) => answer(sequence, warmUp, 4, 1)));
const streams = await Promise.all(prompts.map(async (tokens, index) => {
    if (plan.staggerMs > 0)
        await sleep(plan.staggerMs * index);
    return answer(sequences[index], tokens, plan.generate, plan.seed + index);
}));
process.stdout.write(JSON.stringify({streams}) + "\n");
process.exit(0);
