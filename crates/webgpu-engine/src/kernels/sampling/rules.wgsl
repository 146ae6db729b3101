// What the rules of a draw leave, in terms of keys, bins and masses.
//
// A token's distance is how far its logit is below the best one. Its bin grows with the distance; its mass is its share
// of the best token's probability. Masses are integers, so that sums do not depend on the order of additions: equal
// steps draw equal tokens. Sums have 64 bits in two words, the lower first.

// The mass of the best token.
const WHOLE = 2147483648.0;

fn best_of_groups() -> vec2<u32> {
    var best = scratch.best[0];
    for (var i = 1u; i < GROUPS; i++) {
        best = better(best, scratch.best[i]);
    }
    return best;
}

fn is_greedy() -> bool {
    return step.temperature < GREEDY_BELOW;
}

// How many tokens are left; 0 is all.
fn tokens_max() -> u32 {
    if (is_greedy()) {
        return 1u;
    }
    return select(0u, step.top_k, step.top_k < VOCABULARY);
}

fn is_cut_by_mass() -> bool {
    return step.top_p < 1.0 && !is_greedy();
}

fn is_cut() -> bool {
    return tokens_max() > 0u || is_cut_by_mass();
}

// By the bits of the distance, so that all kernels find the same: 128 bins for each doubling from 1/4 to 64.
fn bin_of(distance: f32) -> u32 {
    let bits = bitcast<u32>(max(distance, 0.25));
    return min((bits - 0x3e800000u) >> 16u, BINS - 1u);
}

fn mass_of(distance: f32) -> u32 {
    return u32(exp(-distance) * WHOLE);
}

fn sum_of(one: vec2<u32>, other: vec2<u32>) -> vec2<u32> {
    let low = one.x + other.x;
    return vec2<u32>(low, one.y + other.y + select(0u, 1u, low < one.x));
}

fn difference_of(one: vec2<u32>, other: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(one.x - other.x, one.y - other.y - select(0u, 1u, one.x < other.x));
}

fn is_less(one: vec2<u32>, other: vec2<u32>) -> bool {
    return one.y < other.y || (one.y == other.y && one.x < other.x);
}
