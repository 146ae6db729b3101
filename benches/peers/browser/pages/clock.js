// What both pages measure by: the wall clock of who asks.

/// Runs something that calls back as its tokens come. `came` takes each token as it comes.
export async function answered(run) {
  const asked = performance.now();
  const times = [];
  const chunks = [];
  await run((chunk) => {
    times.push(performance.now());
    chunks.push(chunk);
  });
  const [first, last] = [times[0], times[times.length - 1]];
  return {
    chunks,
    tokens: times.length,
    firstSeconds: (first - asked) / 1000,
    perSecond: times.length > 1 ? ((times.length - 1) * 1000) / (last - first) : null,
  };
}

/// Runs something once, and then as often as it may count while there is time for it: the first run compiles kernels. If
/// there is no time for a second, the first has to count. `figure` takes out of a run what is measured.
export async function repeated(plan, run, figure) {
  const started = performance.now();
  const first = await run();
  const each = (performance.now() - started) / 1000;
  const values = [];
  while (values.length < plan.rounds && (values.length + 2) * each < plan.seconds) {
    values.push(figure(await run()));
  }
  return { value: values.length > 0 ? median(values) : figure(first), warm: values.length > 0, seconds: each, first };
}

/// Measures a prompt of each length, as long as there is time, and the answer to the first of them.
/// `ask(tokens, answer)` asks with a prompt of so many tokens for an answer of so many.
export async function measured(plan, ask) {
  const prefill = [];
  let expected = 0;
  for (const [index, tokens] of plan.prompts.entries()) {
    if (expected * tokens > plan.seconds) {
      prefill.push({ tokens, tokens_per_s: null, skipped: `would take ${Math.round(expected * tokens)} s` });
      continue;
    }
    const told = await repeated(plan, () => ask(tokens, 1), ({ firstSeconds, promptTokens }) => promptTokens / firstSeconds);
    expected = told.seconds / tokens;
    prefill.push({ tokens: told.first.promptTokens, tokens_per_s: told.value, warm: told.warm });
  }
  const told = await repeated(plan, () => ask(plan.prompts[0], plan.answerTokens), ({ perSecond }) => perSecond);
  return { prefill, decode: told.value, decodeTokens: told.first.tokens, answer: told.first };
}

/// The one in the middle.
export function median(values) {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)];
}
