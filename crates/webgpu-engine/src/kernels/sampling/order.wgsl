// Logits as integers in the same order, and which of two tokens goes first.

// No token: its key is that of what may not be drawn.
const NOBODY = vec2<u32>(0u, 0xffffffffu);

// A number's place in the order of all floats (-0 before 0, as the CPU sorts them). 0 is minus infinity and no number:
// such a token is never drawn. Infinity counts as the largest float, since differences must stay numbers. By bits, since
// devices may assume that no float is infinite.
fn key_of(number: f32) -> u32 {
    let bits = bitcast<u32>(number);
    if ((bits & 0x7fffffffu) > 0x7f800000u || bits == 0xff800000u) {
        return 0u;
    }
    if (bits >= 0x80000000u) {
        return ~bits;
    }
    return min(bits, 0x7f7fffffu) | 0x80000000u;
}

// Back from a key other than 0.
fn number_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}

// Of two tokens (key, id) the one with the larger key, of equals the one with the lower id.
fn better(one: vec2<u32>, other: vec2<u32>) -> vec2<u32> {
    let is_other = other.x > one.x || (other.x == one.x && other.y < one.y);
    return select(one, other, is_other);
}

var<workgroup> pairs: array<vec2<u32>, THREADS>;
var<workgroup> few_pairs: array<vec2<u32>, FAN>;

// The best of what the workgroup's threads have, for all of them. In two rounds of FAN each rather than by halves: it
// takes two barriers, which software adapters pay dearly.
fn best_of_workgroup(thread: u32, own: vec2<u32>) -> vec2<u32> {
    pairs[thread] = own;
    workgroupBarrier();
    if (thread < FAN) {
        var best = pairs[thread];
        for (var i = 1u; i < FAN; i++) {
            best = better(best, pairs[i * FAN + thread]);
        }
        few_pairs[thread] = best;
    }
    workgroupBarrier();
    var best = few_pairs[0];
    for (var i = 1u; i < FAN; i++) {
        best = better(best, few_pairs[i]);
    }
    return best;
}
