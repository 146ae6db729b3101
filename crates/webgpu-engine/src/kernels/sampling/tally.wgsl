// Counts and masses of tokens by bins, in the workgroup: first all counts, then the lower words of all masses, then the
// upper ones.

var<workgroup> tallied: array<atomic<u32>, 3u * TALLY_BINS>;

fn clear_tallies(thread: u32) {
    for (var i = thread; i < 3u * TALLY_BINS; i += THREADS) {
        atomicStore(&tallied[i], 0u);
    }
    workgroupBarrier();
}

fn tally(bin: u32, mass: u32) {
    atomicAdd(&tallied[bin], 1u);
    if (mass == 0u) {
        return;
    }
    let before = atomicAdd(&tallied[TALLY_BINS + bin], mass);
    if (before > 0xffffffffu - mass) {
        atomicAdd(&tallied[2u * TALLY_BINS + bin], 1u);
    }
}
