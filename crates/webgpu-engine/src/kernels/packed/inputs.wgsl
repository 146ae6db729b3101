// 32 numbers of a state: whole numbers, their scale, and the scaled sums of either half.
struct Inputs {
    low: vec4<u32>,
    high: vec4<u32>,
    means: vec4<f32>,
}

fn inputs_at(place: u32) -> Inputs {
    let at = place * 3u;
    return Inputs(inputs[at], inputs[at + 1u], bitcast<vec4<f32>>(inputs[at + 2u]));
}

