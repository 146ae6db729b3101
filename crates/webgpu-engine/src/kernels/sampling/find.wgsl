// In which bin a sum over the bins reaches what is needed. The kernel says what lies in a bin (`bin_sum`).

// A count of tokens, and the two words of their mass.
alias Sum = vec3<u32>;

struct Found {
    // The number of bins where the sum over all does not reach it.
    bin: u32,
    // Of all bins before it.
    before: Sum,
}

var<workgroup> thread_sums: array<Sum, THREADS>;
var<workgroup> few_bin_sums: array<Sum, FAN>;

fn total(one: Sum, other: Sum) -> Sum {
    return Sum(one.x + other.x, sum_of(one.yz, other.yz));
}

// Prepares `find`, with all threads.
fn sum_bins(thread: u32) {
    const EACH = FIND_BINS / THREADS;
    var sum = Sum(0u);
    for (var i = 0u; i < EACH; i++) {
        sum = total(sum, bin_sum(thread * EACH + i));
    }
    thread_sums[thread] = sum;
    workgroupBarrier();
    if (thread < FAN) {
        sum = Sum(0u);
        for (var i = 0u; i < FAN; i++) {
            sum = total(sum, thread_sums[thread * FAN + i]);
        }
        few_bin_sums[thread] = sum;
    }
    workgroupBarrier();
}

fn reaches(sum: Sum, need: vec2<u32>, is_count: bool) -> bool {
    return !is_less(select(sum.yz, vec2<u32>(sum.x, 0u), is_count), need);
}

// Where the count or the mass reaches what is needed, by one thread.
fn find(need: vec2<u32>, is_count: bool) -> Found {
    const EACH = FIND_BINS / THREADS;
    var before = Sum(0u);
    var few = 0u;
    for (; few < FAN; few++) {
        let sum = total(before, few_bin_sums[few]);
        if (reaches(sum, need, is_count)) {
            break;
        }
        before = sum;
    }
    if (few == FAN) {
        return Found(FIND_BINS, before);
    }
    var thread = few * FAN;
    for (; thread < few * FAN + FAN - 1u; thread++) {
        let sum = total(before, thread_sums[thread]);
        if (reaches(sum, need, is_count)) {
            break;
        }
        before = sum;
    }
    var bin = thread * EACH;
    for (; bin < thread * EACH + EACH - 1u; bin++) {
        let sum = total(before, bin_sum(bin));
        if (reaches(sum, need, is_count)) {
            break;
        }
        before = sum;
    }
    return Found(bin, before);
}
