fn packed32_NAME(block: u32) -> P32 {
    let at = block * 5u;
    let fifths = NAME[at];
    let words = vec4<u32>(NAME[at + 1u], NAME[at + 2u], NAME[at + 3u], NAME[at + 4u]);
    let scale = scale_NAME(block);
    return P32(
        (words & vec4<u32>(0x0F0F0F0Fu)) | fifth_bytes_of(fifths),
        ((words >> vec4<u32>(4u)) & vec4<u32>(0x0F0F0F0Fu)) | fifth_bytes_of(fifths >> 16u),
        Scale(scale), Scale(-16.0 * scale),
    );
}
