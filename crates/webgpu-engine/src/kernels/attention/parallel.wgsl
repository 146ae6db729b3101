// One workgroup a split, head of keys, and token or few tokens: each key and value is read once for all the queries that
// it serves, which are those of some heads and tokens. Lines with a number sign stand for one line for each of these
// queries: arrays with an index would not stay in registers.
const THREADS: u32 = 64u;
const QUERIES: u32 = SHARED * TOKENS_AT_ONCE;
// Tokens between two barriers, one a thread where scores are worked on.
const TILE: u32 = 64u;
// Threads that share the product of a query and a key.
const LANES: u32 = 4u;
// Threads that share the search for a query's highest score.
const SEEKERS: u32 = 8u;
// Threads that read the values of a token are as many as its quads; so many tokens are read at once.
const ROWS: u32 = THREADS / QUADS;

var<workgroup> queries: array<vec4<f32>, QUERIES * QUADS>;
// The lanes' products; at the end the weighted values of each row.
var<workgroup> products: array<f32, THREADS * QUERIES * 4u>;
var<workgroup> shares: array<f32, TILE * QUERIES>;
// The seekers' maxima; at the end the sums of each row.
var<workgroup> found: array<f32, max(THREADS, QUERIES * ROWS)>;
var<workgroup> most: array<f32, QUERIES>;
var<workgroup> kept: array<f32, QUERIES>;

// What a token sees in a split: from a position to before another. Nothing beyond the last token.
fn range_of(token: u32, split: u32) -> vec2<u32> {
    let end = step.position + token + 1u;
    let first = end - min(WINDOW, end) + split * SPLIT_TOKENS;
    if (token >= step.tokens || first >= end) {
        return vec2<u32>(0u, 0u);
    }
    return vec2<u32>(first, min(first + SPLIT_TOKENS, end));
}

fn is_seen(position: u32, token: u32, split: u32) -> bool {
    let range = range_of(token, split);
    return position >= range.x && position < range.y;
}

// The scores of a tile's tokens.
fn score_tile(thread: u32, group: vec3<u32>, tile: u32, last: u32) {
    let kv_head = group.x * SHARED / SERVED;
    let token = group.z * TOKENS_AT_ONCE;
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
    shares[thread * QUERIES + #u] = select(LOWEST, score_at(#u * TILE + thread), is_seen(tile + thread, token + #u / SHARED, group.y));
    workgroupBarrier();
}

fn score_at(product: u32) -> f32 {
    let place = product * LANES;
    return score_of((products[place] + products[place + 1u]) + (products[place + 2u] + products[place + 3u]));
}

// The highest scores so far, and what sums are multiplied with that were made with those before.
fn seek(thread: u32) {
    if (thread < QUERIES * SEEKERS) {
        let query = thread / SEEKERS;
        var highest = LOWEST;
        for (var i = thread % SEEKERS; i < TILE; i += SEEKERS) {
            highest = max(highest, shares[i * QUERIES + query]);
        }
        found[thread] = highest;
    }
    workgroupBarrier();
    if (thread < QUERIES) {
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
    // What any of the tokens sees: ranges begin and end with their tokens in the same order, but one of the first tokens
    // may see nothing in the last split.
    let token = group.z * TOKENS_AT_ONCE;
    let last_token = min(token + TOKENS_AT_ONCE, step.tokens) - 1u;
    let last = range_of(last_token, group.y).y;
    if (last == 0u) {
        return;
    }
    // Where the first token's split begins, or would if it saw so much.
    let end = step.position + token + 1u;
    let first = end - min(WINDOW, end) + group.y * SPLIT_TOKENS;
    load_queries(thread, group, last_token);
    let kv_head = group.x * SHARED / SERVED;
    let row = thread / QUADS;
    let quad = thread % QUADS;
    var sum_# = 0.0;
    var weighted_# = vec4<f32>();
    for (var tile = first; tile < last; tile += TILE) {
        score_tile(thread, group, tile, last);
        seek(thread);
        shares[thread * QUERIES + #u] = select(0.0, exp(shares[thread * QUERIES + #u] - most[#u]), is_seen(tile + thread, token + #u / SHARED, group.y));
        workgroupBarrier();
        sum_# *= kept[#u];
        weighted_# *= kept[#u];
        if (row < ROWS) {
            let count = min(TILE, last - tile);
            for (var i = row; i < count; i += ROWS) {
                let numbers = value((slot_of(tile + i) * KV_HEADS + kv_head) * QUADS + quad);
                let share_# = shares[i * QUERIES + #u];
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
    for (var i = thread; i < QUERIES * QUADS; i += THREADS) {
        join_rows(group, i / QUADS, i % QUADS);
    }
}

fn load_queries(thread: u32, group: vec3<u32>, last_token: u32) {
    for (var i = thread; i < QUERIES * QUADS; i += THREADS) {
        let query = i / QUADS;
        // Those beyond the last token see nothing, whatever they are.
        let token = min(group.z * TOKENS_AT_ONCE + query / SHARED, last_token);
        let head = group.x * SHARED + query % SHARED;
        queries[i] = qkv[(token * (HEADS + 2u * KV_HEADS) + head) * QUADS + i % QUADS];
    }
    if (thread < QUERIES) {
        most[thread] = LOWEST;
    }
    workgroupBarrier();
}

fn keep_row(thread: u32, query: u32, weighted: vec4<f32>) {
    let place = (query * THREADS + thread) * 4u;
    products[place] = weighted.x;
    products[place + 1u] = weighted.y;
    products[place + 2u] = weighted.z;
    products[place + 3u] = weighted.w;
}

fn join_rows(group: vec3<u32>, query: u32, quad: u32) {
    let token = group.z * TOKENS_AT_ONCE + query / SHARED;
    if (range_of(token, group.y).y == 0u) {
        return;
    }
    var weighted = vec4<f32>();
    var sum = 0.0;
    for (var row = 0u; row < ROWS; row++) {
        let place = (query * THREADS + row * QUADS + quad) * 4u;
        weighted += vec4<f32>(products[place], products[place + 1u], products[place + 2u], products[place + 3u]);
        sum += found[query * ROWS + row];
    }
    let head = group.x * SHARED + query % SHARED;
    let partial = ((token * HEADS + head) * splits_of_step() + group.y) * (QUADS + 1u);
    partials[partial + 1u + quad] = weighted;
    if (quad == 0u) {
        partials[partial] = vec4<f32>(most[query], sum, 0.0, 0.0);
    }
}
