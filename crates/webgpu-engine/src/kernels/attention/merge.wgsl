// One thread for four numbers of a token.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= HEADS * QUADS) {
        return;
    }
    let token = id.y;
    let head = id.x / QUADS;
    let quad = id.x % QUADS;
    let seen = min(WINDOW, step.position + token + 1u);
    let splits = (seen + SPLIT_TOKENS - 1u) / SPLIT_TOKENS;
    let start = (token * HEADS + head) * splits_of_step() * (QUADS + 1u);
    var most = LOWEST;
    for (var split = 0u; split < splits; split++) {
        most = max(most, partials[start + split * (QUADS + 1u)].x);
    }
    var sum = 0.0;
    var weighted = vec4<f32>();
    for (var split = 0u; split < splits; split++) {
        let partial = start + split * (QUADS + 1u);
        let about = partials[partial];
        let kept = exp(about.x - most);
        sum += about.y * kept;
        weighted += partials[partial + 1u + quad] * kept;
    }
    outputs[token * HEADS * QUADS + id.x] = weighted / sum;
}
