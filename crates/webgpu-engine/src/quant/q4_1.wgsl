fn load32_NAME(block: u32) -> W32 {
    let at = block * 5u;
    let means = unpack2x16float(NAME[at]);
    let words = vec4<u32>(NAME[at + 1u], NAME[at + 2u], NAME[at + 3u], NAME[at + 4u]);
    return W32(
        means.x * low_of(words.x) + means.y, means.x * low_of(words.y) + means.y,
        means.x * low_of(words.z) + means.y, means.x * low_of(words.w) + means.y,
        means.x * high_of(words.x) + means.y, means.x * high_of(words.y) + means.y,
        means.x * high_of(words.z) + means.y, means.x * high_of(words.w) + means.y,
    );
}
