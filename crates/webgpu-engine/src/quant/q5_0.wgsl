fn load32_NAME(block: u32) -> W32 {
    let at = block * 5u;
    let fifths = NAME[at];
    let words = vec4<u32>(NAME[at + 1u], NAME[at + 2u], NAME[at + 3u], NAME[at + 4u]);
    let scale = scale_NAME(block);
    let zero = -16.0 * scale;
    let low = words & vec4<u32>(0x0F0F0F0Fu);
    let high = (words >> vec4<u32>(4u)) & vec4<u32>(0x0F0F0F0Fu);
    return W32(
        scale * bytes_of(low.x | fifths_of(fifths)) + zero, scale * bytes_of(low.y | fifths_of(fifths >> 4u)) + zero,
        scale * bytes_of(low.z | fifths_of(fifths >> 8u)) + zero, scale * bytes_of(low.w | fifths_of(fifths >> 12u)) + zero,
        scale * bytes_of(high.x | fifths_of(fifths >> 16u)) + zero, scale * bytes_of(high.y | fifths_of(fifths >> 20u)) + zero,
        scale * bytes_of(high.z | fifths_of(fifths >> 24u)) + zero, scale * bytes_of(high.w | fifths_of(fifths >> 28u)) + zero,
    );
}
