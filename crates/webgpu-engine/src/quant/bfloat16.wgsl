fn load32_NAME(block: u32) -> W32 {
    let at = block * 4u;
    let one = NAME[at];
    let two = NAME[at + 1u];
    let three = NAME[at + 2u];
    let four = NAME[at + 3u];
    return W32(
        upper_halves_of(one.x, one.y), upper_halves_of(one.z, one.w),
        upper_halves_of(two.x, two.y), upper_halves_of(two.z, two.w),
        upper_halves_of(three.x, three.y), upper_halves_of(three.z, three.w),
        upper_halves_of(four.x, four.y), upper_halves_of(four.z, four.w),
    );
}
