// Of 32 columns: weights of 64 rows and states of 64 tokens, four columns in a quad. Rows and tokens lie side by side, so
// that threads side by side read and write what lies side by side. Who has this text declares `Quad` and `quad_of`.
var<workgroup> weight_tile: array<Quad, 512>;
var<workgroup> state_tile: array<Quad, 512>;

fn put_weights(row: u32, weights: W32) {
    weight_tile[row] = quad_of(weights.a);
    weight_tile[row + 64u] = quad_of(weights.b);
    weight_tile[row + 128u] = quad_of(weights.c);
    weight_tile[row + 192u] = quad_of(weights.d);
    weight_tile[row + 256u] = quad_of(weights.e);
    weight_tile[row + 320u] = quad_of(weights.f);
    weight_tile[row + 384u] = quad_of(weights.g);
    weight_tile[row + 448u] = quad_of(weights.h);
}

fn put_state(token: u32, place: u32) {
    let at = place * 8u;
    state_tile[token] = quad_of(inputs[at]);
    state_tile[token + 64u] = quad_of(inputs[at + 1u]);
    state_tile[token + 128u] = quad_of(inputs[at + 2u]);
    state_tile[token + 192u] = quad_of(inputs[at + 3u]);
    state_tile[token + 256u] = quad_of(inputs[at + 4u]);
    state_tile[token + 320u] = quad_of(inputs[at + 5u]);
    state_tile[token + 384u] = quad_of(inputs[at + 6u]);
    state_tile[token + 448u] = quad_of(inputs[at + 7u]);
}

fn add_dot(sum: f32, one: Quad, other: Quad) -> f32 {
    let a = vec4<f32>(one);
    let b = vec4<f32>(other);
    return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, sum))));
}

