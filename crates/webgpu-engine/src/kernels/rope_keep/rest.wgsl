        for (var i = TURNED + thread; i < HEAD_SIZE; i += THREADS) {
            qkv[start + i] = qkv[start + i] * weight(head, i, scale);
        }
