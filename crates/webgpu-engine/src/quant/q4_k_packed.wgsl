fn packed32_NAME(block: u32) -> P32 {
    let at = block / 8u * 9u;
    let group = block % 8u;
    let means = group_of(NAME[at], group);
    let numbers = at + 1u + group / 2u * 2u;
    let shift = vec4<u32>(group % 2u * 4u);
    return P32(
        (NAME[numbers] >> shift) & vec4<u32>(0x0F0F0F0Fu), (NAME[numbers + 1u] >> shift) & vec4<u32>(0x0F0F0F0Fu),
        Scale(means.x), Scale(-means.y),
    );
}
