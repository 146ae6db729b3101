// One thread a head of queries, no barriers. Scores of a few tokens are made first, so that the sums of a quad of numbers
// stay in registers while those tokens' values are read.
const TILE: u32 = 32u;

@compute @workgroup_size(SHARED)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let token = group.z;
    let end = step.position + token + 1u;
    let first = end - min(WINDOW, end) + group.y * SPLIT_TOKENS;
    if (first >= end) {
        return;
    }
    let last = min(first + SPLIT_TOKENS, end);
    let head = group.x * SHARED + thread;
    let kv_head = head / SERVED;
    let query = (token * (HEADS + 2u * KV_HEADS) + head) * QUADS;
    let partial = ((token * HEADS + head) * splits_of_step() + group.y) * (QUADS + 1u);
    var sums: array<vec4<f32>, QUADS>;
    var places: array<u32, TILE>;
    var shares: array<f32, TILE>;
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
            shares[i] = score;
            most = max(most, score);
        }
        let kept = exp(most_before - most);
        sum *= kept;
        for (var i = 0u; i < count; i++) {
            let share = exp(shares[i] - most);
            shares[i] = share;
            sum += share;
        }
        for (var quad = 0u; quad < QUADS; quad++) {
            var weighted = sums[quad] * kept;
            for (var i = 0u; i < count; i++) {
                weighted += shares[i] * value(places[i] + quad);
            }
            sums[quad] = weighted;
        }
    }
    partials[partial] = vec4<f32>(most, sum, 0.0, 0.0);
    for (var quad = 0u; quad < QUADS; quad++) {
        partials[partial + 1u + quad] = sums[quad];
    }
}
