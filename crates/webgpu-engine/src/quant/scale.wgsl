// Two scales lie in a word, behind all blocks.
fn scale_NAME(block: u32) -> f32 {
    let at = SCALES_AT + block / 2u;
    return unpack2x16float(WORD >> (block % 2u * 16u)).x;
}
