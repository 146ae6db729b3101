alias Weights = W32;
alias Sum = vec4<f32>;

// Of weights that are floats: the packed numbers are made floats again.
fn multiply(weights: Weights, state: Inputs) -> Sum {
    let sum = weights.a * signed_bytes_of(state.low.x) + weights.b * signed_bytes_of(state.low.y)
        + weights.c * signed_bytes_of(state.low.z) + weights.d * signed_bytes_of(state.low.w)
        + weights.e * signed_bytes_of(state.high.x) + weights.f * signed_bytes_of(state.high.y)
        + weights.g * signed_bytes_of(state.high.z) + weights.h * signed_bytes_of(state.high.w);
    return state.means.x * sum;
}

fn total(sum: Sum) -> f32 {
    return sum.x + sum.y + sum.z + sum.w;
}

