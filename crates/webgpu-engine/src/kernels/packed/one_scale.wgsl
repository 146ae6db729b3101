alias Weights = P32;
alias Sum = f32;

fn multiply(weights: Weights, place: u32) -> Sum {
    let at = place * 3u;
    let low = inputs[at];
    let high = inputs[at + 1u];
    let means = bitcast<vec4<f32>>(inputs[at + 2u]);
    let product = dot4I8Packed(weights.low.x, low.x) + dot4I8Packed(weights.low.y, low.y)
        + dot4I8Packed(weights.low.z, low.z) + dot4I8Packed(weights.low.w, low.w)
        + dot4I8Packed(weights.high.x, high.x) + dot4I8Packed(weights.high.y, high.y)
        + dot4I8Packed(weights.high.z, high.z) + dot4I8Packed(weights.high.w, high.w);
    return weights.scale * means.x * f32(product) + weights.offset * (means.y + means.z);
}

fn total(sum: Sum) -> f32 {
    return sum;
}

