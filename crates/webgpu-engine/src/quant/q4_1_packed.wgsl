fn packed32_NAME(block: u32) -> P32 {
    let at = block * 5u;
    let means = unpack2x16float(NAME[at]);
    let words = vec4<u32>(NAME[at + 1u], NAME[at + 2u], NAME[at + 3u], NAME[at + 4u]);
    return P32(
        words & vec4<u32>(0x0F0F0F0Fu), (words >> vec4<u32>(4u)) & vec4<u32>(0x0F0F0F0Fu),
        Scale(means.x), Scale(means.y),
    );
}
