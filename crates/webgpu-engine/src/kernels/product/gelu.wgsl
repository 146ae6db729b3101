// Beyond 10 the hyperbolic tangent is 1; some compilers make it of powers that overflow.
fn gelu(number: f32) -> f32 {
    let inner = 0.7978845608 * number * (1.0 + 0.044715 * number * number);
    return 0.5 * number * (1.0 + tanh(clamp(inner, -10.0, 10.0)));
}

