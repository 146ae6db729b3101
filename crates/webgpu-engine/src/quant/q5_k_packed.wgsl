fn packed32_NAME(block: u32) -> P32 {
    let at = block / 8u * 11u;
    let group = block % 8u;
    let means = group_of(NAME[at], group);
    let numbers = at + 3u + group / 2u * 2u;
    let shift = vec4<u32>(group % 2u * 4u);
    let fifths = vec4<u32>(group);
    let fifth = vec4<u32>(0x01010101u);
    let first = ((NAME[numbers] >> shift) & vec4<u32>(0x0F0F0F0Fu))
        | (((NAME[at + 1u] >> fifths) & fifth) << vec4<u32>(4u));
    let second = ((NAME[numbers + 1u] >> shift) & vec4<u32>(0x0F0F0F0Fu))
        | (((NAME[at + 2u] >> fifths) & fifth) << vec4<u32>(4u));
    return P32(first, second, Scale(means.x), Scale(-means.y));
}
