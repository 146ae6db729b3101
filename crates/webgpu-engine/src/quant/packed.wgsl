// 32 weights as whole numbers, four in a word: a weight is `scale · number + offset`. Where `Scale` is a vector of two,
// the first is that of the first sixteen weights.
struct P32 {
    low: vec4<u32>,
    high: vec4<u32>,
    scale: Scale,
    offset: Scale,
}

// Sixteen fifth bits, in the bytes of four words.
fn fifth_bytes_of(bits: u32) -> vec4<u32> {
    return vec4<u32>(fifths_of(bits), fifths_of(bits >> 4u), fifths_of(bits >> 8u), fifths_of(bits >> 12u));
}

