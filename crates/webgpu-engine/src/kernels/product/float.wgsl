alias Weights = W32;
alias Inputs = W32;
alias Sum = vec4<f32>;

fn inputs_at(place: u32) -> Inputs {
    let at = place * 8u;
    return Inputs(
        inputs[at], inputs[at + 1u], inputs[at + 2u], inputs[at + 3u],
        inputs[at + 4u], inputs[at + 5u], inputs[at + 6u], inputs[at + 7u],
    );
}

fn multiply(weights: Weights, state: Inputs) -> Sum {
    return weights.a * state.a + weights.b * state.b + weights.c * state.c + weights.d * state.d
        + weights.e * state.e + weights.f * state.f + weights.g * state.g + weights.h * state.h;
}

fn total(sum: Sum) -> f32 {
    return sum.x + sum.y + sum.z + sum.w;
}

