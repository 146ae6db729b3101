// How much mass the likeliest tokens must have together.

// All 64 bits of a product.
fn product_of(one: u32, other: u32) -> vec2<u32> {
    let low = (one & 0xffffu) * (other & 0xffffu);
    let left = (one >> 16u) * (other & 0xffffu);
    let right = (one & 0xffffu) * (other >> 16u);
    let middle = left + (low >> 16u);
    let rest = right + (middle & 0xffffu);
    let high = (one >> 16u) * (other >> 16u) + (middle >> 16u) + (rest >> 16u);
    return vec2<u32>((rest << 16u) | (low & 0xffffu), high);
}

// The share `top_p` of a mass; at least something, since the best token is always left.
fn needed_of(mass: vec2<u32>) -> vec2<u32> {
    let share = u32(max(step.top_p, 0.0) * 4294967296.0);
    let need = sum_of(product_of(mass.y, share), vec2<u32>(product_of(mass.x, share).y, 0u));
    return select(need, vec2<u32>(1u, 0u), need.x == 0u && need.y == 0u);
}
