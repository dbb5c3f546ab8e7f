"""The transforms of Winograd's convolution F(4x4, 3x3), for Numba: tiles of 6 x 6 places of sixteen channels at a time, in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from neuro.kernels.shared_loops import LANES, aligned, machine, turn

PARTS = "5ad85fac7393"  # of shared_loops.py, which says why
TILE, STEP = 6, 4  # places that a tile reads and gives, each way

# Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: points 0, 1, -1, 2, -2 and infinity.
INTO = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1))
OUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
KERNEL = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6), (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))


def _transform(matrix: Sequence[Sequence[int]]) -> Any:
    """Machine code: 16 channels of a tile, rows a_row and places a_place apart, become matrix @ tile @ matrix^T; results b_row and b_place apart."""

    @intrinsic
    def transform(context: Any, a: Any, at: Any, a_row: Any, a_place: Any, b: Any, bt: Any, b_row: Any, b_place: Any) -> Any:
        def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            element = context.get_value_type(signature.args[0].dtype)
            vector, word, size = ir.VectorType(element, LANES), ir.IntType(64), context.get_abi_sizeof(element)

            def place(k: int, i: int, j: int) -> Any:
                data = context.make_array(signature.args[k])(context, builder, args[k]).data
                offset = builder.add(args[k + 1], builder.add(builder.mul(args[k + 2], ir.Constant(word, i)), builder.mul(args[k + 3], ir.Constant(word, j))))
                return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())

            def sum_of(weights: Sequence[int], values: Sequence[Any]) -> Any:
                total = None
                for w, v in sorted(zip(weights, values, strict=True), key=lambda pair: -abs(pair[0])):
                    if w:
                        term = v if w in (1, -1) else builder.fmul(v, ir.Constant(vector, [float(abs(w))] * LANES), flags=("contract",))
                        if total is None:
                            total = builder.fneg(term) if w < 0 else term
                        else:
                            total = (builder.fsub if w < 0 else builder.fadd)(total, term, flags=("contract",))
                return total

            half = []  # matrix @ tile, column after column
            for j in range(len(matrix[0])):
                column = [builder.load(place(0, i, j), align=size) for i in range(len(matrix[0]))]
                half.append([sum_of(row, column) for row in matrix])
            for i in range(len(matrix)):
                for j, row in enumerate(matrix):
                    builder.store(sum_of(row, [column[i] for column in half]), place(4, i, j), align=size)
            return context.get_dummy_value()

        kinds = (a, types.intp, types.intp, types.intp, b, types.intp, types.intp, types.intp)
        return types.void(*kinds), write

    return transform


_into, _out = _transform(INTO), _transform(OUT)


@machine
def into(framed, frame_h, frame_w, channels, down, across, images, v, low, high):
    """v [36, images * down * across, channels]: the tiles of images low .. high; framed [images, frame_h, frame_w, channels]."""
    plane = images * down * across * channels
    for n in range(low, high):
        for i in range(down):
            for j in range(across):
                at = ((n * frame_h + i * STEP) * frame_w + j * STEP) * channels
                bt = ((n * down + i) * across + j) * channels
                for c in range(0, channels, LANES):
                    _into(framed, at + c, frame_w * channels, channels, v, bt + c, TILE * plane, plane)


@machine
def out(m, channels, down, across, images, y, first, height, width, low, high):
    """y [., channels, height, width]: images first + low .. first + high from m [36, images * down * across, channels]."""
    plane = images * down * across * channels
    line = aligned(STEP * across * STEP * channels, y.dtype)
    for n in range(low, high):
        for i in range(down):
            for j in range(across):
                at = ((n * down + i) * across + j) * channels
                for c in range(0, channels, LANES):
                    _out(m, at + c, TILE * plane, plane, line, j * STEP * channels + c, across * STEP * channels, channels)
            for h in range(min(STEP, height - i * STEP)):
                bt = ((first + n) * channels * height + i * STEP + h) * width
                turn(line, h * across * STEP * channels, channels, width, channels, y, bt, height * width)
