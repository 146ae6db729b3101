// For adapters that compute on the CPU: one thread a head of queries, no barriers. Threads of a workgroup are computed in
// step, eight at a time, so that the heads of several splits, or of several tokens, fill one. Scores of a few tokens are
// made before their values are read, that sums are seldom scaled and a quad of them stays in registers.
SOFTWARE
    var weighted: array<vec4<f32>, QUADS>;
    var places: array<u32, TILE>;
    var scores: array<f32, TILE>;
    var most = LOWEST;
    var sum = 0.0;
    for (var tile = first; tile < last; tile += TILE) {
        let count = min(TILE, last - tile);
        let most_before = most;
        for (var i = 0u; i < count; i++) {
            let place = (slot_of(tile + i) * KV_HEADS + kv_head) * QUADS;
            var products = vec4<f32>();
            for (var quad = 0u; quad < QUADS; quad++) {
                products += qkv[query + quad] * key(place + quad);
            }
            let score = score_of((products.x + products.y) + (products.z + products.w));
            places[i] = place;
            scores[i] = score;
            most = max(most, score);
        }
        let kept = exp(most_before - most);
        sum *= kept;
        for (var i = 0u; i < count; i++) {
            scores[i] = exp(scores[i] - most);
            sum += scores[i];
        }
        for (var quad = 0u; quad < QUADS; quad++) {
            var numbers = weighted[quad] * kept;
            for (var i = 0u; i < count; i++) {
                numbers += scores[i] * value(places[i] + quad);
            }
            weighted[quad] = numbers;
        }
    }
    let partial = ((token * HEADS + head) * splits_of_step() + split) * (QUADS + 1u);
    partials[partial] = vec4<f32>(most, sum, 0.0, 0.0);
    for (var quad = 0u; quad < QUADS; quad++) {
        partials[partial + 1u + quad] = weighted[quad];
    }
}
