// Sums of exponentials: the largest exponent, and the sum relative to it.

// Lower than any logit of a model; infinity cannot be written.
const LOWEST = -3.0e38;
const NOTHING = vec2<f32>(LOWEST, 0.0);

fn with_number(sum: vec2<f32>, number: f32) -> vec2<f32> {
    if (number > sum.x) {
        return vec2<f32>(number, sum.y * exp(sum.x - number) + 1.0);
    }
    return vec2<f32>(sum.x, sum.y + exp(number - sum.x));
}

fn both_sums(one: vec2<f32>, other: vec2<f32>) -> vec2<f32> {
    let most = max(one.x, other.x);
    return vec2<f32>(most, one.y * exp(one.x - most) + other.y * exp(other.x - most));
}
