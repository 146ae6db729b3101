fn packed32_NAME(block: u32) -> P32 {
    return P32(NAME[block * 2u], NAME[block * 2u + 1u], Scale(scale_NAME(block)), Scale(0.0));
}
