
@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let place = (group.x + group.y * groups.x) * THREADSu + thread;
    let token = place / BLOCKS;
    if (token >= step.tokens) {
        return;
    }
    // Tokens before the first row become large by it.
    let row = ids[token] - FIRST;
    if (row >= ROWS) {
        return;
    }
    let weights = load32_embeddings(row * BLOCKS + place % BLOCKS);
    let at = place * 8u;
    states[at] = SCALE * weights.a;
    states[at + 1u] = SCALE * weights.b;
    states[at + 2u] = SCALE * weights.c;
    states[at + 3u] = SCALE * weights.d;
    states[at + 4u] = SCALE * weights.e;
    states[at + 5u] = SCALE * weights.f;
    states[at + 6u] = SCALE * weights.g;
    states[at + 7u] = SCALE * weights.h;
}
