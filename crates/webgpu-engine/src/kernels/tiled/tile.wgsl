// Of 32 columns: weights of 64 rows and states of 64 tokens, four columns in a vector. Rows and tokens lie side by side, so
// that threads side by side read and write what lies side by side.
var<workgroup> weight_tile: array<vec4<f32>, 512>;
var<workgroup> state_tile: array<vec4<f32>, 512>;

fn put_weights(row: u32, weights: W32) {
    weight_tile[row] = weights.a;
    weight_tile[row + 64u] = weights.b;
    weight_tile[row + 128u] = weights.c;
    weight_tile[row + 192u] = weights.d;
    weight_tile[row + 256u] = weights.e;
    weight_tile[row + 320u] = weights.f;
    weight_tile[row + 384u] = weights.g;
    weight_tile[row + 448u] = weights.h;
}

fn put_state(token: u32, place: u32) {
    let at = place * 8u;
    state_tile[token] = inputs[at];
    state_tile[token + 64u] = inputs[at + 1u];
    state_tile[token + 128u] = inputs[at + 2u];
    state_tile[token + 192u] = inputs[at + 3u];
    state_tile[token + 256u] = inputs[at + 4u];
    state_tile[token + 320u] = inputs[at + 5u];
    state_tile[token + 384u] = inputs[at + 6u];
    state_tile[token + 448u] = inputs[at + 7u];
}

fn add_dot(sum: f32, one: vec4<f32>, other: vec4<f32>) -> f32 {
    return fma(one.x, other.x, fma(one.y, other.y, fma(one.z, other.z, fma(one.w, other.w, sum))));
}

