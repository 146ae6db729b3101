fn packed32_NAME(block: u32) -> P32 {
    let words = NAME[block];
    let scale = scale_NAME(block);
    return P32(
        words & vec4<u32>(0x0F0F0F0Fu), (words >> vec4<u32>(4u)) & vec4<u32>(0x0F0F0F0Fu),
        Scale(scale), Scale(-8.0 * scale),
    );
}
