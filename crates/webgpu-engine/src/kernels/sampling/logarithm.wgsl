// Logarithms, the same on every device.

// `2 · artanh(part)` for parts up to a third, by its series: the next term is below 2⁻²⁵ of the sum.
fn twice_artanh(part: f32) -> f32 {
    let square = part * part;
    var sum = 1.0 / 13.0;
    sum = sum * square + 1.0 / 11.0;
    sum = sum * square + 1.0 / 9.0;
    sum = sum * square + 1.0 / 7.0;
    sum = sum * square + 1.0 / 5.0;
    sum = sum * square + 1.0 / 3.0;
    return 2.0 * part * (sum * square + 1.0);
}

// The natural logarithm of a normal number above 0. Devices' own is exact to 2⁻²¹ only around 1, where draws are decided.
fn ln(number: f32) -> f32 {
    let bits = bitcast<i32>(number);
    let power = (bits - 0x3f3504f3) >> 23u;
    let rest = bitcast<f32>(bits - (power << 23u));
    let fraction = twice_artanh((rest - 1.0) / (rest + 1.0));
    // ln 2 in two parts, of which the first has few bits: its products are exact.
    return f32(power) * 0.693359375 + (f32(power) * -0.00021219444 + fraction);
}
