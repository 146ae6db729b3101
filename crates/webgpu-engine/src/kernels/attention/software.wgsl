// How one thread of an adapter that computes on the CPU finds its part; rolled.wgsl and unrolled.wgsl go on from here.
const TILE: u32 = 32u;

@compute @workgroup_size(SHARED * RANGES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let range = thread / SHARED;
    let token = select(group.z, group.z * RANGES + range, TOKENS_AT_ONCE > 1u);
    let split = select(group.y, group.y * RANGES + range, TOKENS_AT_ONCE == 1u);
    let end = step.position + token + 1u;
    let first = end - min(WINDOW, end) + split * SPLIT_TOKENS;
    if (token >= step.tokens || first >= end) {
        return;
    }
    let last = min(first + SPLIT_TOKENS, end);
    let head = group.x * SHARED + thread % SHARED;
    let kv_head = head / SERVED;
    let query = (token * (HEADS + 2u * KV_HEADS) + head) * QUADS;
