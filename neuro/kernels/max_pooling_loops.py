"""Gradients of a maximum over windows, as serial loops over image planes. Loaded when they are used, because they load Numba."""

from __future__ import annotations

from neuro.kernels.cache import machine


@machine
def _scatter(g, taps, away, stride, begin, into):
    """into [H * W] += gradients: of every output, at the place that it took."""
    for row in range(g.shape[0]):
        values, names = g[row], taps[row]
        at = begin + row * stride[0]
        for c in range(len(values)):
            into[at + c * stride[1] + away[names[c]]] += values[c]


@machine
def backward(g, taps, away, stride, begin, grad, low, high):
    """grad [P, H * W]: the gradients g [P, H_out, W_out] go to the places that the outputs were taken from.

    Of an output's window, tap n lies `away[n]` from its first place; the first windows begin at `begin`, neighbours `stride` (two numbers) apart.
    """
    for p in range(low, high):
        grad[p] = 0
        _scatter(g[p], taps[p], away, stride, begin, grad[p])


@machine
def backward_affine(g, taps, away, stride, begin, x, slope, offset, grad, low, high):
    """The same, with slope * x + offset added everywhere; planes repeat slopes and offsets in order."""
    for p in range(low, high):
        a, b = slope[p % len(slope)], offset[p % len(slope)]
        into, given = grad[p], x[p]
        for i in range(len(into)):
            into[i] = a * given[i] + b
        _scatter(g[p], taps[p], away, stride, begin, into)
