fn load32_NAME(block: u32) -> W32 {
    let at = block * 4u;
    let one = NAME[at];
    let two = NAME[at + 1u];
    let three = NAME[at + 2u];
    let four = NAME[at + 3u];
    return W32(
        halves_of(one.x, one.y), halves_of(one.z, one.w),
        halves_of(two.x, two.y), halves_of(two.z, two.w),
        halves_of(three.x, three.y), halves_of(three.z, three.w),
        halves_of(four.x, four.y), halves_of(four.z, four.w),
    );
}
