alias Weights = W32;
alias Sum = vec4<f32>;

// Of weights that are floats: the packed numbers are made floats again.
fn multiply(weights: Weights, place: u32) -> Sum {
    let at = place * 3u;
    let low = inputs[at];
    let high = inputs[at + 1u];
    let scale = bitcast<f32>(inputs[at + 2u].x);
    let sum = weights.a * signed_bytes_of(low.x) + weights.b * signed_bytes_of(low.y)
        + weights.c * signed_bytes_of(low.z) + weights.d * signed_bytes_of(low.w)
        + weights.e * signed_bytes_of(high.x) + weights.f * signed_bytes_of(high.y)
        + weights.g * signed_bytes_of(high.z) + weights.h * signed_bytes_of(high.w);
    return scale * sum;
}

fn total(sum: Sum) -> f32 {
    return sum.x + sum.y + sum.z + sum.w;
}

