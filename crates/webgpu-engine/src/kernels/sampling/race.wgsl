// The third stage of a draw, over many workgroups: tokens that are left for certain race; those in the bins where a rule
// ends are listed for the last stage.

fn bin_sum(bin: u32) -> Sum {
    return Sum(scratch.bins[bin], scratch.bins[BINS + bin], scratch.bins[2u * BINS + bin]);
}

// The first and the last bin that are listed.
var<workgroup> listed_bins: vec2<u32>;

// Finds the bins where the rules end, by one thread. How far top_p reaches is known only once top_k has been applied;
// from the bin where it ends at the earliest to that where top_k ends, all is listed.
fn end_rules(is_told: bool) {
    var by_count = Found(BINS, Sum(0u));
    if (tokens_max() > 0u) {
        by_count = find(vec2<u32>(tokens_max(), 0u), true);
    }
    var first = by_count;
    var all = Sum(0u);
    if (is_cut_by_mass()) {
        all = find(vec2<u32>(0xffffffffu), false).before;
        let least = select(all.yz, by_count.before.yz, by_count.bin < BINS);
        first = find(needed_of(least), false);
    }
    listed_bins = vec2<u32>(first.bin, select(first.bin, by_count.bin, by_count.bin < BINS));
    if (is_told) {
        scratch.is_cut_by_count = select(0u, 1u, by_count.bin < BINS);
        scratch.before_list = vec4<u32>(first.before, 0u);
        scratch.mass = all.yz;
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    var bins = vec2<u32>(BINS);
    if (is_cut()) {
        sum_bins(thread);
        if (thread == 0u) {
            end_rules(group.x == 0u);
        }
        workgroupBarrier();
        bins = listed_bins;
    }
    let best = number_of(best_of_groups().x);
    let least = key_min(best);
    let row = row_of_draw();
    var winner = NOBODY;
    let end = min((group.x + 1u) * CHUNK, VOCABULARY);
    for (var id = group.x * CHUNK + thread; id < end; id += THREADS) {
        let key = scratch.keys[id];
        if (key == 0u) {
            continue;
        }
        let distance = best - number_of(key);
        let bin = bin_of(distance);
        if (bin < bins.x) {
            if (key >= least) {
                winner = better(winner, runner(row, id, distance));
            }
        } else if (bin <= bins.y) {
            scratch.list[atomicAdd(&scratch.listed, 1u)] = id;
        }
    }
    winner = best_of_workgroup(thread, winner);
    if (thread == 0u) {
        scratch.winners[group.x] = winner;
    }
}
