// One workgroup a head and token. A pair belongs to one thread; what is kept is read again behind the barrier, since
// neighbours may be of two pairs.
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let head = group.x;
    let token = group.y;
    let start = (token * (HEADS + 2u * KV_HEADS) + head) * HEAD_SIZE;
    if (head < HEADS + KV_HEADS) {
NORM
        for (var pair = thread; pair < PAIRS; pair += THREADS) {
            let one = FIRST_OF_PAIR;
            let other = SECOND_OF_PAIR;
            let a = qkv[start + one] WEIGHT_ONE;
            let b = qkv[start + other] WEIGHT_OTHER;
            let turn = turns[token * PAIRS + pair];
            qkv[start + one] = a * turn.x - b * turn.y;
            qkv[start + other] = a * turn.y + b * turn.x;
        }
REST
    }
    BARRIER
    let slot = (step.position + token) % KEPT_TOKENS;
    if (head >= HEADS + KV_HEADS) {
        let place = (slot * KV_HEADS + head - HEADS - KV_HEADS) * HEAD_SIZE;
        KEEP_VALUE
    } else if (head >= HEADS) {
        let place = (slot * KV_HEADS + head - HEADS) * HEAD_SIZE;
        KEEP_KEY
    }
}
