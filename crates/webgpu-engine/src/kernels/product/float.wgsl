alias Weights = W32;
alias Sum = vec4<f32>;

fn multiply(weights: Weights, place: u32) -> Sum {
    let at = place * 8u;
    return weights.a * inputs[at] + weights.b * inputs[at + 1u] + weights.c * inputs[at + 2u] + weights.d * inputs[at + 3u]
        + weights.e * inputs[at + 4u] + weights.f * inputs[at + 5u] + weights.g * inputs[at + 6u] + weights.h * inputs[at + 7u];
}

fn total(sum: Sum) -> f32 {
    return sum.x + sum.y + sum.z + sum.w;
}

