fn slot_of(place: u32) -> u32 {
    return place % KEPT_TOKENS;
}

fn score_of(product: f32) -> f32 {
    let score = product * SCALE;
    SOFT_CAP
    return score;
}
