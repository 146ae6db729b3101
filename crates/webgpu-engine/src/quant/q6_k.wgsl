fn load32_NAME(block: u32) -> W32 {
    let at = block / 8u * 13u;
    let run = block % 8u;
    let lower = at + run / 4u * 4u + run % 2u * 2u;
    let lower_shift = vec4<u32>(run % 4u / 2u * 4u);
    let upper = at + 8u + run / 4u * 2u;
    let upper_shift = vec4<u32>(run % 4u * 2u);
    let first = ((NAME[lower] >> lower_shift) & vec4<u32>(0x0F0F0F0Fu))
        | (((NAME[upper] >> upper_shift) & vec4<u32>(0x03030303u)) << vec4<u32>(4u));
    let second = ((NAME[lower + 1u] >> lower_shift) & vec4<u32>(0x0F0F0F0Fu))
        | (((NAME[upper + 1u] >> upper_shift) & vec4<u32>(0x03030303u)) << vec4<u32>(4u));
    // Two scales of 8 bits: 16 weights have one.
    let groups = signed_bytes_of(NAME[at + 12u][run / 2u] >> (run % 2u * 16u));
    let scales = scale_NAME(block / 8u) * groups.xy;
    let zeros = -32.0 * scales;
    return W32(
        scales.x * bytes_of(first.x) + zeros.x, scales.x * bytes_of(first.y) + zeros.x,
        scales.x * bytes_of(first.z) + zeros.x, scales.x * bytes_of(first.w) + zeros.x,
        scales.y * bytes_of(second.x) + zeros.y, scales.y * bytes_of(second.y) + zeros.y,
        scales.y * bytes_of(second.z) + zeros.y, scales.y * bytes_of(second.w) + zeros.y,
    );
}
