// The second stage of a draw, over many workgroups: how many tokens lie in which bin, and how much they weigh. Nothing
// is to be done where all tokens are left.

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    if (!is_cut()) {
        return;
    }
    clear_tallies(thread);
    let is_weighed = is_cut_by_mass();
    let best = number_of(best_of_groups().x);
    let end = min((group.x + 1u) * CHUNK, VOCABULARY);
    for (var id = group.x * CHUNK + thread; id < end; id += THREADS) {
        let key = scratch.keys[id];
        if (key != 0u) {
            let distance = best - number_of(key);
            var mass = 0u;
            if (is_weighed) {
                mass = mass_of(distance);
            }
            tally(bin_of(distance), mass);
        }
    }
    workgroupBarrier();
    for (var bin = thread; bin < BINS; bin += THREADS) {
        let count = atomicLoad(&tallied[bin]);
        if (count == 0u) {
            continue;
        }
        atomicAdd(&scratch.bins[bin], count);
        let low = atomicLoad(&tallied[BINS + bin]);
        var high = atomicLoad(&tallied[2u * BINS + bin]);
        let before = atomicAdd(&scratch.bins[BINS + bin], low);
        high += select(0u, 1u, before > 0xffffffffu - low);
        atomicAdd(&scratch.bins[2u * BINS + bin], high);
    }
}
