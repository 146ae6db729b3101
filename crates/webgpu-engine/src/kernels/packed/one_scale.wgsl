alias Weights = P32;
alias Sum = f32;

fn multiply(weights: Weights, state: Inputs) -> Sum {
    let product = dot4I8Packed(weights.low.x, state.low.x) + dot4I8Packed(weights.low.y, state.low.y)
        + dot4I8Packed(weights.low.z, state.low.z) + dot4I8Packed(weights.low.w, state.low.w)
        + dot4I8Packed(weights.high.x, state.high.x) + dot4I8Packed(weights.high.y, state.high.y)
        + dot4I8Packed(weights.high.z, state.high.z) + dot4I8Packed(weights.high.w, state.high.w);
    return weights.scale * state.means.x * f32(product) + weights.offset * (state.means.y + state.means.z);
}

fn total(sum: Sum) -> f32 {
    return sum;
}

