        var squares = 0.0;
        for (var i = thread; i < HEAD_SIZE; i += THREADS) {
            squares += qkv[start + i] * qkv[start + i];
        }
        let scale = 1.0 / sqrt(total(thread, squares) / f32(HEAD_SIZE) + EPSILON);
