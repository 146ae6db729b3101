fn packed32_NAME(block: u32) -> P32 {
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
    return P32(first, second, scales, -32.0 * scales);
}
