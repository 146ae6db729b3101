// The random numbers of a draw, a function of seed, position in the answer and token alone, and who wins by them. 64 bits
// are two words, the lower first.

fn shifted(number: vec2<u32>, bits: u32) -> vec2<u32> {
    return vec2<u32>((number.x >> bits) | (number.y << (32u - bits)), number.y >> bits);
}

fn low_product(one: vec2<u32>, other: vec2<u32>) -> vec2<u32> {
    let product = product_of(one.x, other.x);
    return vec2<u32>(product.x, product.y + one.x * other.y + one.y * other.x);
}

// A step of Steele and Vigna's SplitMix64.
fn mix64(number: vec2<u32>) -> vec2<u32> {
    var mixed = sum_of(number, vec2<u32>(0x7f4a7c15u, 0x9e3779b9u));
    mixed = low_product(mixed ^ shifted(mixed, 30u), vec2<u32>(0x1ce4e5b9u, 0xbf58476du));
    mixed = low_product(mixed ^ shifted(mixed, 27u), vec2<u32>(0x133111ebu, 0x94d049bbu));
    return mixed ^ shifted(mixed, 31u);
}

// A number of the standard Gumbel distribution, `-ln(-ln(u))` with `u = (number / 2¹¹ + 1/2) / 2⁵³`. Near 1 from its
// distance to 1, of which the integer has all bits. Its error is below 2e-6 between -2 and 16, where nearly all lie, and
// below 4e-6 elsewhere.
fn gumbel(number: vec2<u32>) -> f32 {
    const UNIT = 1.1102230246251565e-16;
    let high = number.y >> 11u;
    let low = (number.x >> 11u) | (number.y << 21u);
    if (high < 0x100000u) {
        let uniform = (f32(high) * 4294967296.0 + (f32(low) + 0.5)) * UNIT;
        return -ln(-ln(uniform));
    }
    let rest = (f32(0x1fffffu - high) * 4294967296.0 + (f32(~low) + 0.5)) * UNIT;
    return -ln(twice_artanh(rest / (2.0 - rest)));
}

// What the numbers of this position are made of.
fn row_of_draw() -> vec2<u32> {
    let seed = mix64(vec2<u32>(step.seed_low, step.seed_high));
    return mix64(seed ^ vec2<u32>(step.draw, 0u));
}

// A runner (key of the score, id): the one with the largest sum of logit and Gumbel number wins, which draws from the
// softmax.
fn runner(row: vec2<u32>, id: u32, distance: f32) -> vec2<u32> {
    let score = gumbel(mix64(row ^ vec2<u32>(id, 0u))) - distance / max(step.temperature, GREEDY_BELOW);
    return vec2<u32>(key_of(score), id);
}

// The least key that min_p leaves: `logit >= best + ln(min_p)`.
fn key_min(best: f32) -> u32 {
    if (step.min_p > 0.0 && !is_greedy()) {
        return max(key_of(best + ln(step.min_p)), 1u);
    }
    return 1u;
}
