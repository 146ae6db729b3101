// Who is chosen: of the listed tokens those that the rules leave race too, and then the winners of all workgroups.
//
// Listed tokens are ordered by key and, of equals, by falling id. The last one that is left is found by its digits of 8
// bits, the 4 of the key first and then the 3 of the inverted id: how much lies under which digit, in which digit the
// rule ends, and then only what begins with that.

const DIGITS = 7u;

// A bound: what is left has these bits or larger ones. As far as they are known: key, inverted id, and their masks.
struct Bound {
    key: u32,
    key_mask: u32,
    place: u32,
    place_mask: u32,
}

struct Search {
    is_done: u32,
    digit: u32,
    // Still needed, of what begins with the digits so far.
    need: vec2<u32>,
    // Everything before the digits so far.
    before: Sum,
    bound: Bound,
}

// Of this search, and what both leave: that for top_k first, that for top_p second.
var<workgroup> search: Search;
var<workgroup> left: array<Bound, 2>;

fn bin_sum(bin: u32) -> Sum {
    // Large digits come first.
    let digit = TALLY_BINS - 1u - bin;
    return Sum(
        atomicLoad(&tallied[digit]),
        atomicLoad(&tallied[TALLY_BINS + digit]),
        atomicLoad(&tallied[2u * TALLY_BINS + digit]),
    );
}

fn is_within(bound: Bound, key: u32, place: u32) -> bool {
    let known = key & bound.key_mask;
    return known > bound.key || (known == bound.key && (place & bound.place_mask) >= bound.place);
}

fn is_left(key: u32, place: u32) -> bool {
    return is_within(left[0], key, place) && is_within(left[1], key, place);
}

// By one thread: begins a search among what is left, or says that there is nothing to search.
fn begin(is_needed: bool, need: vec2<u32>, before: Sum) {
    search = Search(select(1u, 0u, is_needed), 0u, need, before, Bound(0u, 0u, 0u, 0u));
}

// By one thread: the next digit of the bound.
fn follow(is_count: bool) {
    let found = find(search.need, is_count);
    if (found.bin == TALLY_BINS) {
        // All of it does not reach what is needed: everything is left.
        search.before = total(search.before, found.before);
        search.is_done = 1u;
        return;
    }
    let digit = TALLY_BINS - 1u - found.bin;
    if (search.digit < 4u) {
        let shift = 24u - 8u * search.digit;
        search.bound.key |= digit << shift;
        search.bound.key_mask |= 0xffu << shift;
    } else {
        let shift = 48u - 8u * search.digit;
        search.bound.place |= digit << shift;
        search.bound.place_mask |= 0xffu << shift;
    }
    search.before = total(search.before, found.before);
    let passed = select(found.before.yz, vec2<u32>(found.before.x, 0u), is_count);
    search.need = difference_of(search.need, passed);
    search.digit += 1u;
    let last = bin_sum(found.bin);
    let is_whole = last.x == 1u || (is_count && last.x == search.need.x);
    if (is_whole || search.digit == DIGITS) {
        search.before = total(search.before, last);
        search.is_done = 1u;
    }
}

// Searches, with all threads, once one has begun it. Afterwards `left` is what the rule leaves, and `search.before` the
// count and the mass of that.
fn find_bound(thread: u32, is_count: bool, best: f32) {
    workgroupBarrier();
    let weighs = is_cut_by_mass();
    let listed = scratch.listed;
    for (var turn = 0u; turn < DIGITS; turn++) {
        if (workgroupUniformLoad(&search.is_done) != 0u) {
            break;
        }
        clear_tallies(thread);
        let bound = search.bound;
        for (var i = thread; i < listed; i += THREADS) {
            let id = scratch.list[i];
            let key = scratch.keys[id];
            let place = ~id & 0xffffffu;
            let is_under = (key & bound.key_mask) == bound.key
                && (place & bound.place_mask) == bound.place;
            if (is_under && is_left(key, place)) {
                var digit = key >> (24u - 8u * min(turn, 3u));
                if (turn > 3u) {
                    digit = place >> (48u - 8u * turn);
                }
                var mass = 0u;
                if (weighs) {
                    mass = mass_of(best - number_of(key));
                }
                tally(digit & 0xffu, mass);
            }
        }
        workgroupBarrier();
        sum_bins(thread);
        if (thread == 0u) {
            follow(is_count);
        }
    }
    if (thread == 0u) {
        left[select(1u, 0u, is_count)] = search.bound;
    }
    workgroupBarrier();
}

// What top_k and then top_p leave of the listed tokens, with all threads.
fn apply_rules(thread: u32, best: f32) {
    let before = scratch.before_list.xyz;
    let is_cut_by_count = scratch.is_cut_by_count != 0u;
    if (thread == 0u) {
        begin(is_cut_by_count, vec2<u32>(tokens_max() - before.x, 0u), before);
    }
    find_bound(thread, true, best);
    if (is_cut_by_mass()) {
        if (thread == 0u) {
            let mass = select(scratch.mass, search.before.yz, is_cut_by_count);
            begin(true, difference_of(needed_of(mass), before.yz), before);
        }
        find_bound(thread, false, best);
    }
}

fn choose(thread: u32) -> vec2<u32> {
    if (thread == 0u) {
        left[0] = Bound(0u, 0u, 0u, 0u);
        left[1] = left[0];
    }
    let best = number_of(best_of_groups().x);
    var winner = NOBODY;
    for (var i = thread; i < GROUPS; i += THREADS) {
        winner = better(winner, scratch.winners[i]);
    }
    if (is_cut()) {
        apply_rules(thread, best);
        let least = key_min(best);
        let row = row_of_draw();
        let listed = scratch.listed;
        for (var i = thread; i < listed; i += THREADS) {
            let id = scratch.list[i];
            let key = scratch.keys[id];
            if (key >= least && is_left(key, ~id & 0xffffffu)) {
                winner = better(winner, runner(row, id, best - number_of(key)));
            }
        }
    }
    return best_of_workgroup(thread, winner);
}
