// One workgroup a token. Each thread sees the same numbers in all passes, so that it reads only what it wrote itself.
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let start = group.x * QUADS;
ADD
    var squares = vec4<f32>();
    for (var i = thread; i < QUADS; i += THREADS) {
        let number = states[start + i];
        squares += number * number;
    }
    let scale = scale_of(thread, squares);
    for (var i = thread; i < QUADS; i += THREADS) {
        outputs[start + i] = states[start + i] * scale * weights[i];
    }
PACK
}

fn scale_of(thread: u32, squares: vec4<f32>) -> f32 {
    let mean = total(thread, (squares.x + squares.y) + (squares.z + squares.w)) / f32(4u * QUADS);
    return 1.0 / sqrt(mean + EPSILON);
}
