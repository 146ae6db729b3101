// The last stage, of one workgroup: writes down who was chosen, and what else is told.

// The best token that has not been told yet, of each workgroup's tokens of the first stage.
var<workgroup> untold: array<vec2<u32>, GROUPS>;

// Tells the likeliest tokens by their raw logits. The best of all is the best of its group's; only that group is looked
// through for the next one.
fn tell_alternatives(thread: u32, record: u32) {
    for (var i = thread; i < GROUPS; i += THREADS) {
        untold[i] = scratch.raw_best[i];
    }
    workgroupBarrier();
    let wanted = min(step.alternatives, ALTERNATIVES_MAX);
    var told = 0u;
    for (var rank = 0u; rank < wanted; rank++) {
        var best = untold[0];
        var group = 0u;
        for (var i = 1u; i < GROUPS; i++) {
            let next = better(best, untold[i]);
            if (next.y != best.y) {
                group = i;
            }
            best = next;
        }
        if (best.x != 0u) {
            told += 1u;
            if (thread == 0u) {
                results[record + HEAD_WORDS + 2u * rank] = best.y;
                results[record + HEAD_WORDS + 2u * rank + 1u] = bitcast<u32>(logits[best.y]);
            }
        }
        var next = NOBODY;
        let end = min((group + 1u) * CHUNK, VOCABULARY);
        for (var id = group * CHUNK + thread; id < end; id += THREADS) {
            let key = key_of(logits[id]);
            if (key != 0u && (key < best.x || (key == best.x && id > best.y))) {
                next = better(next, vec2<u32>(key, id));
            }
        }
        next = best_of_workgroup(thread, next);
        if (thread == 0u) {
            untold[group] = next;
        }
        workgroupBarrier();
    }
    if (thread == 0u) {
        var sum = scratch.sums[0];
        for (var i = 1u; i < GROUPS; i++) {
            sum = both_sums(sum, scratch.sums[i]);
        }
        results[record + 2u] = MINUS_INFINITY;
        if (sum.y > 0.0) {
            results[record + 2u] = bitcast<u32>(sum.x + ln(sum.y));
        }
        results[record + 3u] = told;
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    let chosen = choose(thread);
    let record = (step.draw % RECORDS) * RECORD_WORDS;
    if (thread == 0u) {
        if (chosen.x == 0u) {
            ids[0] = 0u;
            results[record] = NO_TOKEN;
            results[record + 1u] = MINUS_INFINITY;
        } else {
            ids[0] = chosen.y;
            counts[chosen.y] += 1u;
            results[record] = chosen.y;
            results[record + 1u] = bitcast<u32>(logits[chosen.y]);
        }
        results[record + 2u] = 0u;
        results[record + 3u] = NO_TOKEN;
    }
    if ((step.flags & LOG_PROBABILITIES) != 0u) {
        tell_alternatives(thread, record);
    }
}
