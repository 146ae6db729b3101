fn load32_NAME(block: u32) -> W32 {
    let words = NAME[block];
    let scale = scale_NAME(block);
    let zero = -8.0 * scale;
    return W32(
        scale * low_of(words.x) + zero, scale * low_of(words.y) + zero,
        scale * low_of(words.z) + zero, scale * low_of(words.w) + zero,
        scale * high_of(words.x) + zero, scale * high_of(words.y) + zero,
        scale * high_of(words.z) + zero, scale * high_of(words.w) + zero,
    );
}
