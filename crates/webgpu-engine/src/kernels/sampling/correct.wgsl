// The first stage, over many workgroups: what rules make of each logit, and the best of each workgroup's tokens.

var<workgroup> partial_sums: array<vec2<f32>, THREADS>;
var<workgroup> few_sums: array<vec2<f32>, FAN>;

fn sum_of_workgroup(thread: u32, own: vec2<f32>) -> vec2<f32> {
    partial_sums[thread] = own;
    workgroupBarrier();
    if (thread < FAN) {
        var sum = partial_sums[thread];
        for (var i = 1u; i < FAN; i++) {
            sum = both_sums(sum, partial_sums[i * FAN + thread]);
        }
        few_sums[thread] = sum;
    }
    workgroupBarrier();
    var sum = few_sums[0];
    for (var i = 1u; i < FAN; i++) {
        sum = both_sums(sum, few_sums[i]);
    }
    return sum;
}

fn corrected_key(id: u32, raw_key: u32) -> u32 {
    if (raw_key == 0u) {
        return 0u;
    }
    if ((step.flags & MASK) != 0u && ((mask[id / 32u] >> (id % 32u)) & 1u) == 0u) {
        return 0u;
    }
    var number = number_of(raw_key);
    if ((step.flags & BIASES) != 0u) {
        number += biases[id];
    }
    if ((step.flags & PENALTIES) != 0u) {
        let count = counts[id];
        if (count > 0u) {
            number -= f32(count) * step.frequency_penalty + step.presence_penalty;
        }
    }
    return key_of(number);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    if (DRAWS) {
        // For the next stages.
        for (var i = group.x * THREADS + thread; i < 3u * BINS; i += GROUPS * THREADS) {
            scratch.bins[i] = 0u;
        }
        if (group.x == 0u && thread == 0u) {
            scratch.listed = 0u;
        }
    }
    let is_told = (step.flags & LOG_PROBABILITIES) != 0u;
    var best = NOBODY;
    var raw_best = NOBODY;
    var sum = NOTHING;
    let end = min((group.x + 1u) * CHUNK, VOCABULARY);
    for (var id = group.x * CHUNK + thread; id < end; id += THREADS) {
        let raw_key = key_of(logits[id]);
        let key = corrected_key(id, raw_key);
        best = better(best, vec2<u32>(key, id));
        if (DRAWS) {
            scratch.keys[id] = key;
        }
        if (is_told && raw_key != 0u) {
            raw_best = better(raw_best, vec2<u32>(raw_key, id));
            sum = with_number(sum, number_of(raw_key));
        }
    }
    best = best_of_workgroup(thread, best);
    if (thread == 0u) {
        scratch.best[group.x] = best;
    }
    if (is_told) {
        raw_best = best_of_workgroup(thread, raw_best);
        sum = sum_of_workgroup(thread, sum);
        if (thread == 0u) {
            scratch.raw_best[group.x] = raw_best;
            scratch.sums[group.x] = sum;
        }
    }
}
