"""The operations of a compiled network, for Numba: one row of an integer table each, over some steps of one sample.

Values lie in one flat array, time first, channels last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from neuro.kernels.active_loops import product, repeat
from neuro.kernels.map_loops import conv, depthwise, pool, sizes_of
from neuro.kernels.shared_loops import copy, machine
from neuro.kernels.table import (
    ADD,
    AFFINE,
    ATTENTION,
    BIAS,
    CONV,
    DEPTHWISE,
    FIRST,
    IN,
    IN_2,
    IN_3,
    KIND,
    LINEAR,
    LOAD,
    MEAN_TOKENS,
    NEURON,
    OUT,
    OVER_TIME,
    POOL,
    SIZE,
    STATE,
    STORE,
    STRIDE,
    TURN,
    WEIGHT,
)

PARTS = "593895559e23"  # of active_loops.py, map_loops.py, shared_loops.py, which says why, and table.py


@machine
def _turn(a, at, rows, columns, b, to):
    """b [columns, rows] = a [rows, columns] transposed."""
    for r in range(rows):
        for c in range(columns):
            b[to + c * rows + r] = a[at + r * columns + c]


@machine
def _attention(row, scale, arena, q, k, v, to, index, values, starts, work):
    """One step of `scale * (q k^T) v` per head; q, k, v, y [N, D]. Either product first, each driven by what is not zero.

    work: [D / heads, N] the turned keys, then the first product.
    """
    N, D, heads, qk_first, _, _, _, _, _, _, _, _, _, _, _ = sizes_of(row)
    d = D // heads
    between = d * N
    arena[to : to + N * D] = 0
    for h in range(heads):
        for n in range(N):
            for j in range(d):
                work[j * N + n] = arena[k + n * D + h * d + j]
        if qk_first:
            work[between : between + N * N] = 0
            product(arena, q + h * d, D, N, d, work, 0, N, N, work, between, N, index, values, starts)
            product(work, between, N, N, N, arena, v + h * d, D, d, arena, to + h * d, D, index, values, starts)
        else:
            work[between : between + d * d] = 0
            product(work, 0, N, d, N, arena, v + h * d, D, d, work, between, d, index, values, starts)
            product(arena, q + h * d, D, N, d, work, between, d, d, arena, to + h * d, D, index, values, starts)
    y = arena[to : to + N * D]
    for i in range(N * D):
        y[i] *= scale


@machine
def _over_time(row, arena, x, steps, state, at, outs, to, is_last):
    """Sum of the steps that count and their number, carried in the state; at the end the sum or the mean goes out."""
    n = row[SIZE]
    total = state[at : at + n]
    for t in range(steps):
        source = arena[x + t * n : x + (t + 1) * n]
        for i in range(n):
            total[i] += source[i]
    state[at + n] += steps
    if is_last:
        count = max(state[at + n], np.float32(1)) if row[FIRST] else np.float32(1)
        for i in range(n):
            outs[to + i] = total[i] / count


@machine
def _common(row, weights, numbers, arena, index, values, starts, work, state, origin, ins, outs, samples, sample, begin, steps, valid, room, is_last, T):
    """Do what one row of the table says, for `steps` steps from `begin` on, of which `valid` count."""
    kind, n = row[KIND], row[SIZE]
    to, at = row[OUT] * room, row[IN] * room
    if kind == LINEAR:
        rows, inner, columns = row[FIRST] * steps, row[FIRST + 1], row[FIRST + 2]
        repeat(arena, to, rows, weights, row[BIAS], columns)
        product(arena, at, inner, rows, inner, weights, row[WEIGHT], columns, columns, arena, to, columns, index, values, starts)
    elif kind == ADD:
        a, b, y = arena[at : at + steps * n], arena[row[IN_2] * room : row[IN_2] * room + steps * n], arena[to : to + steps * n]
        for i in range(steps * n):
            y[i] = a[i] + b[i]
    elif kind == OVER_TIME:
        _over_time(row, arena, at, valid, state, origin + row[STATE], outs, row[OUT] * samples * T + sample * n, is_last)
    else:
        for t in range(steps):
            here, there = at + t * row[STRIDE], to + t * n
            if kind == CONV:
                conv(row, arena, here, arena, there, weights, index, values, starts)
            elif kind == DEPTHWISE:
                depthwise(row, arena, here, arena, there, weights)
            elif kind == POOL:
                pool(row, arena, here, arena, there, work)
            elif kind == ATTENTION:
                k, v = row[IN_2] * room + t * n, row[IN_3] * room + t * n
                _attention(row, np.float32(numbers[row[WEIGHT]]), arena, here, k, v, there, index, values, starts, work)
            elif kind == TURN:
                _turn(arena, here, row[FIRST], row[FIRST + 1], arena, there)
            elif kind == MEAN_TOKENS:
                _mean_tokens(arena, here, row[FIRST], n, arena, there)
            elif kind == AFFINE:
                _affine(arena, here, weights, row[WEIGHT], row[BIAS], n, there)
            elif kind == LOAD:
                outside = row[IN] * samples * T + ((begin + t) * samples + sample) * n
                _turn(ins, outside, row[FIRST], row[FIRST + 1], arena, there)
            elif kind == STORE:
                outside = row[OUT] * samples * T + ((begin + t) * samples + sample) * n
                _turn(arena, here, row[FIRST], row[FIRST + 1], outs, outside)


@machine
def _mean_tokens(x, at, tokens, n, y, to):
    target = y[to : to + n]
    target[:] = 0
    for r in range(tokens):
        source = x[at + r * n : at + (r + 1) * n]
        for c in range(n):
            target[c] += source[c]
    for c in range(n):
        target[c] /= np.float32(tokens)


@machine
def _affine(arena, at, weights, scale, shift, n, to):
    x, y, a, b = arena[at : at + n], arena[to : to + n], weights[scale : scale + n], weights[shift : shift + n]
    for i in range(n):
        y[i] = x[i] * a[i] + b[i]


@machine
def _feed_back(x, at, work, n, last, begin, weights, matrix, bias, index, values, starts):
    """work[:n] = x[at : at + n] + b + W s for the spikes s = last[begin : begin + n]; W turned [N, N]."""
    for i in range(n):
        work[i] = x[at + i] + weights[bias + i]
    product(last, begin, n, 1, n, weights, matrix, n, n, work, 0, n, index, values, starts)


@intrinsic
def _call(context: Any, address: Any, x: Any, at: Any, y: Any, to: Any, state: Any, place: Any, weights: Any, first: Any, numbers: Any, number: Any, n: Any) -> Any:
    """The function at this address, given pointers to these elements, and n."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        single, double, word = ir.FloatType().as_pointer(), ir.DoubleType().as_pointer(), ir.IntType(64)
        pointers = [
            builder.gep(context.make_array(signature.args[k])(context, builder, args[k]).data, [args[k + 1]]) for k in (1, 3, 5, 7, 9)
        ]  # fmt: skip
        function = ir.FunctionType(ir.VoidType(), [single, single, single, single, double, word])
        builder.call(builder.inttoptr(args[0], function.as_pointer()), [*pointers, args[11]])
        return context.get_dummy_value()

    return types.void(types.int64, x, types.intp, y, types.intp, state, types.intp, weights, types.intp, numbers, types.intp, types.int64), write


@machine
def _neurons(row, functions, weights, numbers, arena, index, values, starts, work, state, origin, steps, valid, room):
    """`steps` steps of one layer; those beyond `valid` give zeros and leave the state alone."""
    n, address = row[SIZE], functions[row[KIND] - NEURON]
    place, matrix, last = origin + row[STATE], row[FIRST], origin + row[FIRST + 2]
    arena[row[OUT] * room + valid * n : row[OUT] * room + steps * n] = 0
    for t in range(valid):
        at, to = row[IN] * room + t * n, row[OUT] * room + t * n
        if matrix < 0:
            _call(address, arena, at, arena, to, state, place, weights, row[WEIGHT], numbers, row[BIAS], n)
        else:
            _feed_back(arena, at, work, n, state, last, weights, matrix, row[FIRST + 1], index, values, starts)
            _call(address, work, 0, arena, to, state, place, weights, row[WEIGHT], numbers, row[BIAS], n)
            copy(arena, to, state, last, n)


@machine
def drive(
    table, first, stop, repeat, functions, weights, numbers, arena, index, values, starts, work, state, ins, outs, lengths, T, samples, room, low, high
):  # fmt: skip
    """Rows first .. stop of a table for samples low .. high, `room` steps at a time, each row `repeat` times.

    state [samples, S] is the state before and becomes the one after. ins, outs: the values that come from and go outside, one after the other,
    each [T, samples, size].
    """
    for sample in range(low, high):
        origin = sample * (state.size // samples)
        for begin in range(0, T, room):
            steps = min(room, T - begin)
            valid = min(max(lengths[sample] - begin, 0), steps)
            for o in range(first, stop):
                row = table[o]
                for _ in range(repeat):
                    if row[KIND] < NEURON:
                        is_last = begin + steps == T
                        _common(row, weights, numbers, arena, index, values, starts, work, state, origin, ins, outs, samples, sample, begin, steps, valid, room, is_last, T)
                    else:
                        _neurons(row, functions, weights, numbers, arena, index, values, starts, work, state, origin, steps, valid, room)
