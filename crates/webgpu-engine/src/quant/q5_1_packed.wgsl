fn packed32_NAME(block: u32) -> P32 {
    let at = block * 6u;
    let means = unpack2x16float(NAME[at]);
    let fifths = NAME[at + 1u];
    let words = vec4<u32>(NAME[at + 2u], NAME[at + 3u], NAME[at + 4u], NAME[at + 5u]);
    return P32(
        (words & vec4<u32>(0x0F0F0F0Fu)) | fifth_bytes_of(fifths),
        ((words >> vec4<u32>(4u)) & vec4<u32>(0x0F0F0F0Fu)) | fifth_bytes_of(fifths >> 16u),
        Scale(means.x), Scale(means.y),
    );
}
