"""Weights of a GGUF as ONNX Runtime's MatMulNBits wants them: blocks of 32, unsigned integers, a scale and a zero each."""

import numpy as np
from gguf import GGMLQuantizationType, dequantize

BLOCK = 32


class Weights:
    """Rows of blocks: `values` (rows, columns) integers, `scales` and `zeros` (rows, blocks)."""

    def __init__(self, bits, values, scales, zeros):
        self.bits, self.values, self.scales, self.zeros = bits, values, scales, zeros

    def rows(self, order):
        """The same with its rows in another order. Blocks lie inside rows, so nothing is rounded."""
        zeros = None if self.zeros is None else self.zeros[order]
        return Weights(self.bits, self.values[order], self.scales[order], zeros)

    def below(self, others):
        """One matrix of several with as many columns."""
        every = [self, *others]
        assert all(one.bits == self.bits for one in every)
        stack = lambda name: np.concatenate([getattr(one, name) for one in every])
        return Weights(self.bits, stack("values"), stack("scales"), None if self.zeros is None else stack("zeros"))

    def packed(self):
        """(rows, blocks, bytes of a block), lower nibble first."""
        rows, columns = self.values.shape
        blocks = self.values.reshape(rows, columns // BLOCK, BLOCK)
        if self.bits == 8:
            return np.ascontiguousarray(blocks)
        return blocks[..., 0::2] | (blocks[..., 1::2] << 4)

    def packed_zeros(self):
        """(rows, bytes): two zeros a byte, lower nibble first, rows padded to whole bytes. None: the middle of the range."""
        if self.zeros is None:
            return None
        zeros = self.zeros if self.zeros.shape[1] % 2 == 0 else np.pad(self.zeros, ((0, 0), (0, 1)))
        return zeros[:, 0::2] | (zeros[:, 1::2] << 4)


def eight_bits(tensor):
    """Q8_0 as it is: the same scales, the same integers, only shifted by 128. Nothing is rounded but f16 to f32."""
    assert tensor.tensor_type == GGMLQuantizationType.Q8_0
    columns, rows = (int(size) for size in tensor.shape)
    blocks = np.asarray(tensor.data).reshape(rows, columns // BLOCK, 2 + BLOCK)
    scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0].astype(np.float32)
    values = (blocks[..., 2:] ^ 0x80).reshape(rows, columns)
    return Weights(8, values, scales, None)


def four_bits(tensor):
    """Rounds to 4 bits with an integer zero, by the zero and the scale that leave the least squared error of each block.

    An integer zero is all that ONNX Runtime's WebGPU kernels take, so that even a Q4_1 is rounded once more.
    """
    columns, rows = (int(size) for size in tensor.shape)
    weights = dequantize(np.asarray(tensor.data), tensor.tensor_type).astype(np.float32)
    blocks = weights.reshape(rows * (columns // BLOCK), BLOCK)
    # Zero has to be in the range, for the zero is one of its integers.
    low, high = np.minimum(blocks.min(1), 0), np.maximum(blocks.max(1), 0)
    exact = np.where(high > low, -low / np.maximum(high - low, 1e-30) * 15, 0)
    best = np.full(len(blocks), np.inf, np.float32)
    kept = [np.zeros_like(best), np.zeros_like(best), np.zeros(blocks.shape, np.uint8)]
    for offset in (-1, 0, 1):
        zero = np.clip(np.round(exact) + offset, 0, 15).astype(np.float32)
        reach = np.maximum(high / np.maximum(15 - zero, 0.5), -low / np.maximum(zero, 0.5))
        for part in (1.0, 0.96, 0.92, 0.88, 0.84, 0.8):
            scale = np.maximum(reach * part, 1e-30)
            values = np.clip(np.round(blocks / scale[:, None]) + zero[:, None], 0, 15)
            shifted = values - zero[:, None]
            # With the integers fixed, this scale has the least squared error.
            scale = (blocks * shifted).sum(1) / np.maximum((shifted * shifted).sum(1), 1e-30)
            error = np.square(blocks - shifted * scale[:, None]).sum(1)
            better = error < best
            best[better] = error[better]
            for old, new in zip(kept, (scale, zero, values.astype(np.uint8))):
                old[better] = new[better]
    scales, zeros, values = kept
    shape = (rows, columns // BLOCK)
    return Weights(4, values.reshape(rows, columns), scales.reshape(shape), zeros.astype(np.uint8).reshape(shape))
