// One workgroup a split and head of keys: each key and value is read once for all heads of queries that it serves. Lines
// with a number sign stand for one line for each of these heads: arrays with an index would not stay in registers.
const THREADS: u32 = 64u;
// Tokens between two barriers, one a thread where scores are worked on.
const TILE: u32 = 64u;
// Threads that share the product of a query and a key.
const LANES: u32 = 4u;
// Threads that share the search for a head's highest score.
const SEEKERS: u32 = 8u;
// Threads that read the values of a token, and how many tokens they read at once.
const ROWS: u32 = THREADS / QUADS;

var<workgroup> queries: array<vec4<f32>, SHARED * QUADS>;
// The lanes' products; at the end the weighted values of each row.
var<workgroup> products: array<f32, THREADS * SHARED * 4u>;
var<workgroup> shares: array<f32, TILE * SHARED>;
// The seekers' maxima; at the end the sums of each row.
var<workgroup> found: array<f32, max(THREADS, SHARED * ROWS)>;
var<workgroup> most: array<f32, SHARED>;
var<workgroup> kept: array<f32, SHARED>;

// The scores of a tile's tokens.
fn score_tile(thread: u32, kv_head: u32, tile: u32, last: u32) {
    let lane = thread % LANES;
    for (var i = thread / LANES; i < TILE; i += THREADS / LANES) {
        if (tile + i < last) {
            let place = (slot_of(tile + i) * KV_HEADS + kv_head) * QUADS;
            var sum_# = 0.0;
            for (var quad = lane; quad < QUADS; quad += LANES) {
                let numbers = key(place + quad);
                sum_# += dot(queries[#u * QUADS + quad], numbers);
            }
            products[(#u * TILE + i) * LANES + lane] = sum_#;
        }
    }
    workgroupBarrier();
    let at = thread * LANES;
    let is_seen = tile + thread < last;
    shares[thread * SHARED + #u] = select(LOWEST, score_of((products[#u * TILE * LANES + at] + products[#u * TILE * LANES + at + 1u]) + (products[#u * TILE * LANES + at + 2u] + products[#u * TILE * LANES + at + 3u])), is_seen);
    workgroupBarrier();
}

// The highest scores so far, and what sums are multiplied with that were made with those before.
fn seek(thread: u32) {
    if (thread < SHARED * SEEKERS) {
        let head = thread / SEEKERS;
        var highest = LOWEST;
        for (var i = thread % SEEKERS; i < TILE; i += SEEKERS) {
            highest = max(highest, shares[i * SHARED + head]);
        }
        found[thread] = highest;
    }
    workgroupBarrier();
    if (thread < SHARED) {
        let before = most[thread];
        var highest = before;
        for (var i = 0u; i < SEEKERS; i++) {
            highest = max(highest, found[thread * SEEKERS + i]);
        }
        most[thread] = highest;
        kept[thread] = exp(before - highest);
    }
    workgroupBarrier();
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let token = group.z;
    let end = step.position + token + 1u;
    let first = end - min(WINDOW, end) + group.y * SPLIT_TOKENS;
    if (first >= end) {
        return;
    }
    let last = min(first + SPLIT_TOKENS, end);
    let head = group.x * SHARED;
    let kv_head = head / SERVED;
    let query = (token * (HEADS + 2u * KV_HEADS) + head) * QUADS;
    for (var i = thread; i < SHARED * QUADS; i += THREADS) {
        queries[i] = qkv[query + i];
    }
    if (thread < SHARED) {
        most[thread] = LOWEST;
    }
    workgroupBarrier();
    let row = thread / QUADS;
    let quad = thread % QUADS;
    var sum_# = 0.0;
    var weighted_# = vec4<f32>();
    for (var tile = first; tile < last; tile += TILE) {
        score_tile(thread, kv_head, tile, last);
        seek(thread);
        let is_seen = tile + thread < last;
        shares[thread * SHARED + #u] = select(0.0, exp(shares[thread * SHARED + #u] - most[#u]), is_seen);
        workgroupBarrier();
        sum_# *= kept[#u];
        weighted_# *= kept[#u];
        if (row < ROWS) {
            let count = min(TILE, last - tile);
            for (var i = row; i < count; i += ROWS) {
                let numbers = value((slot_of(tile + i) * KV_HEADS + kv_head) * QUADS + quad);
                let share_# = shares[i * SHARED + #u];
                sum_# += share_#;
                weighted_# += share_# * numbers;
            }
        }
    }
    if (row < ROWS) {
        keep_row(thread, #u, weighted_#);
        if (quad == 0u) {
            found[#u * ROWS + row] = sum_#;
        }
    }
    workgroupBarrier();
    for (var i = thread; i < SHARED * QUADS; i += THREADS) {
        join_rows(token, head + i / QUADS, group.y, i / QUADS, i % QUADS);
    }
}

fn keep_row(thread: u32, shared_head: u32, weighted: vec4<f32>) {
    let place = (shared_head * THREADS + thread) * 4u;
    products[place] = weighted.x;
    products[place + 1u] = weighted.y;
    products[place + 2u] = weighted.z;
    products[place + 3u] = weighted.w;
}

fn join_rows(token: u32, head: u32, split: u32, shared_head: u32, quad: u32) {
    var weighted = vec4<f32>();
    var sum = 0.0;
    for (var row = 0u; row < ROWS; row++) {
        let place = (shared_head * THREADS + row * QUADS + quad) * 4u;
        weighted += vec4<f32>(products[place], products[place + 1u], products[place + 2u], products[place + 3u]);
        sum += found[shared_head * ROWS + row];
    }
    let partial = ((token * HEADS + head) * splits_of_step() + split) * (QUADS + 1u);
    partials[partial + 1u + quad] = weighted;
    if (quad == 0u) {
        partials[partial] = vec4<f32>(most[shared_head], sum, 0.0, 0.0);
    }
}
