// Who is chosen: the best of all.

fn choose(thread: u32) -> vec2<u32> {
    var best = scratch.best[0];
    for (var i = 1u; i < GROUPS; i++) {
        best = better(best, scratch.best[i]);
    }
    return best;
}
