fn load32_NAME(block: u32) -> W32 {
    let at = block * 6u;
    let means = unpack2x16float(NAME[at]);
    let fifths = NAME[at + 1u];
    let words = vec4<u32>(NAME[at + 2u], NAME[at + 3u], NAME[at + 4u], NAME[at + 5u]);
    let low = words & vec4<u32>(0x0F0F0F0Fu);
    let high = (words >> vec4<u32>(4u)) & vec4<u32>(0x0F0F0F0Fu);
    return W32(
        means.x * bytes_of(low.x | fifths_of(fifths)) + means.y, means.x * bytes_of(low.y | fifths_of(fifths >> 4u)) + means.y,
        means.x * bytes_of(low.z | fifths_of(fifths >> 8u)) + means.y, means.x * bytes_of(low.w | fifths_of(fifths >> 12u)) + means.y,
        means.x * bytes_of(high.x | fifths_of(fifths >> 16u)) + means.y, means.x * bytes_of(high.y | fifths_of(fifths >> 20u)) + means.y,
        means.x * bytes_of(high.z | fifths_of(fifths >> 24u)) + means.y, means.x * bytes_of(high.w | fifths_of(fifths >> 28u)) + means.y,
    );
}
