fn load32_NAME(block: u32) -> W32 {
    let first = NAME[block * 2u];
    let second = NAME[block * 2u + 1u];
    let scale = scale_NAME(block);
    return W32(
        scale * signed_bytes_of(first.x), scale * signed_bytes_of(first.y),
        scale * signed_bytes_of(first.z), scale * signed_bytes_of(first.w),
        scale * signed_bytes_of(second.x), scale * signed_bytes_of(second.y),
        scale * signed_bytes_of(second.z), scale * signed_bytes_of(second.w),
    );
}
