fn load32_NAME(block: u32) -> W32 {
    let at = block * 8u;
    return W32(NAME[at], NAME[at + 1u], NAME[at + 2u], NAME[at + 3u], NAME[at + 4u], NAME[at + 5u], NAME[at + 6u], NAME[at + 7u]);
}
