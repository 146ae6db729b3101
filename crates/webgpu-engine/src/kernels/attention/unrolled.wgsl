// As rolled.wgsl, for small heads: lines with a number sign stand for one line for each quad of numbers of a head, so that
// the query and its sums stay in registers. For large ones some compilers take seconds.
SOFTWARE
    let query_# = qkv[query + #u];
    var weighted_# = vec4<f32>();
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
            products += query_# * key(place + #u);
            let score = score_of((products.x + products.y) + (products.z + products.w));
            places[i] = place;
            scores[i] = score;
            most = max(most, score);
        }
        let kept = exp(most_before - most);
        sum *= kept;
        weighted_# *= kept;
        for (var i = 0u; i < count; i++) {
            let share = exp(scores[i] - most);
            let place = places[i];
            sum += share;
            weighted_# += share * value(place + #u);
        }
    }
    let partial = ((token * HEADS + head) * splits_of_step() + split) * (QUADS + 1u);
    partials[partial] = vec4<f32>(most, sum, 0.0, 0.0);
    partials[partial + 1u + #u] = weighted_#;
}
