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
/// `ask(tokens, answer)` asks with a prompt of so many tokens for an answer of so many. What is known so far lies in `told`.
export async function measured(plan, told, ask) {
  told.prefill = [];
  let expected = 0;
  for (const tokens of plan.prompts) {
    if (expected * tokens > plan.seconds) {
      told.prefill.push({ tokens, tokens_per_s: null, skipped: `would take ${Math.round(expected * tokens)} s` });
      continue;
    }
    const run = await repeated(plan, () => ask(tokens, 1), ({ firstSeconds, promptTokens }) => promptTokens / firstSeconds);
    expected = run.seconds / tokens;
    told.prefill.push({ tokens, tokens_per_s: run.value, tokens_read: run.first.promptTokens, warm: run.warm });
  }
  const run = await repeated(plan, () => ask(plan.prompts[0], plan.answerTokens), ({ perSecond }) => perSecond);
  told.decode = run.value;
  told.decodeTokens = run.first.tokens;
}

/// The one in the middle.
export function median(values) {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)];
}
