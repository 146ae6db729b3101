// 32 weights, one after another. Named fields, since compilers put what is indexed into slow memory.
struct W32 {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
}

// The numbers in the four bytes of a word. By shifts, since `unpack4xU8` is not in every browser's WGSL; as signed
// numbers, since some processors convert only these to floats.
fn bytes_of(word: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xFFu)));
}

// The same with signs.
fn signed_bytes_of(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// The numbers in the lower halves of the four bytes.
fn low_of(word: u32) -> vec4<f32> {
    return bytes_of(word & 0x0F0F0F0Fu);
}

// And in the upper halves.
fn high_of(word: u32) -> vec4<f32> {
    return bytes_of((word >> 4u) & 0x0F0F0F0Fu);
}

// Four bits, each at the fifth place of a byte. The product has them at places 4, 12, 20 and 28, and what else it has
// does not overlap.
fn fifths_of(bits: u32) -> u32 {
    return ((bits & 15u) * 0x02040810u) & 0x10101010u;
}

// Two floats of 16 bits in each of two words.
fn halves_of(first: u32, second: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(first), unpack2x16float(second));
}

// The upper halves of floats, two in each of two words.
fn upper_halves_of(first: u32, second: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(first << 16u, first & 0xFFFF0000u, second << 16u, second & 0xFFFF0000u));
}

// The scale and the minimum of a group of Q4_K and Q5_K: see `super_block.rs`. `head` are a block's first four words.
fn group_of(head: vec4<u32>, group: u32) -> vec2<f32> {
    let bytes = head.yzw >> vec3<u32>((group & 3u) * 8u);
    let first = bytes.xy & vec2<u32>(63u);
    let second = vec2<u32>(bytes.z & 15u, (bytes.z >> 4u) & 15u) | ((bytes.xy >> vec2<u32>(2u)) & vec2<u32>(0x30u));
    return unpack2x16float(head.x) * vec2<f32>(select(first, second, group >= 4u));
}
