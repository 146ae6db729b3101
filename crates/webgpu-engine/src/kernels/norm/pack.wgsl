    for (var i = thread; i < GROUPS; i += THREADS) {
        let place = start + i * 8u;
        let whole = pack32(NUMBERS);
        let to = (group.x * GROUPS + i) * VECTORS;
        packed[to] = whole.numbers_low;
        packed[to + 1u] = whole.numbers_high;
        packed[to + 2u] = whole.about;
    }
