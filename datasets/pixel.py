"""One pixel of an event camera between two frames: when it fires, and what it remembers.

A pixel knows d, its log intensity minus the one that it remembers. Between two frames

    d(t) = d(s) + (dy/dt + leak * theta_on) * (t - s)

is linear. It fires ON where d reaches theta_on, OFF where d reaches -theta_off, and by chance where a Poisson process of
the interval's rate says so (shot noise, either polarity). After any event the pixel is held in reset for the refractory
time; at release it remembers what it sees then: d = 0. Without a refractory time that is the level just crossed.

y is the log intensity L behind a first-order low-pass. L is taken as linear between frames, so y at the next frame is
known in closed form, with a = (time between frames) / (time constant):

    y1 = y0 + (L0 - y0) * (1 - exp(-a)) + (L1 - L0) * (1 - (1 - exp(-a)) / a)

The time constant is that of a photoreceptor, inverse to intensity: 1 / (2 pi cutoff exp(L)), L at the middle of the interval.

Sources: Rebecq, Gehrig, Scaramuzza, "ESIM: an open event camera simulator", CoRL 2018, section 3 (crossing times); Hu, Liu,
Delbruck, "v2e: from video frames to realistic DVS events", CVPRW 2021 (bandwidth, leak, shot noise by intensity). Unlike v2e,
which adds noise and filters frame by frame, here nothing but the bandwidth's time constant depends on where frames lie.
"""

from __future__ import annotations

import math

import numba
import numpy as np

TOLERANCE = 1e-6  # log intensity; a level missed by rounding alone counts as reached
IN_LIGHT = 0.25  # the rate of shot noise at intensity 1, as a share of that in the dark (v2e)
GOLDEN, MIX, MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@numba.njit(cache=True, nogil=True)
def uniform(generators, i, j):
    """The next number in (0, 1] of pixel (i, j)'s own generator. Steele, Lea, Flood, "SplitMix", OOPSLA 2014."""
    generators[i, j] += GOLDEN
    z = generators[i, j]
    z = (z ^ (z >> np.uint64(30))) * MIX
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    z = z ^ (z >> np.uint64(31))
    return (np.float64(z >> np.uint64(11)) + 1.0) * 2.0**-53


@numba.njit(cache=True, nogil=True)
def uniforms(generators):
    """One number of every pixel's generator."""
    drawn = np.empty(generators.shape, np.float64)
    for i in range(drawn.shape[0]):
        for j in range(drawn.shape[1]):
            drawn[i, j] = uniform(generators, i, j)
    return drawn


def low_pass(seen, before, after, seconds: float, cutoff: float) -> np.ndarray:
    """What the pixels see at the end of an interval: y1 above. cutoff: Hz at intensity 1; infinite for none."""
    if math.isinf(cutoff):
        return after
    a = np.maximum(2 * math.pi * cutoff * seconds * np.exp((before + after) / 2), 1e-12)  # 0 / 0 below
    share = -np.expm1(-a)
    return seen + (before - seen) * share + (after - before) * (1 - share / a)


@numba.njit(cache=True, nogil=True)
def advance(span, seen, target, middle, difference, release, hazard, generators, thresholds, rates, out, filled):
    """Run the pixels over one interval of `span` us; True once all are at its end, False where `out` does not suffice.

    seen, target [H, W]: y at the start and the end. middle: log intensity in between, which sets the rate of shot noise.
    difference, release, hazard, generators [H, W]: each pixel's state, changed in place: d; how many us after the start it
        is released; how much of its noise rate it still integrates before the next noise event; its random numbers.
    thresholds [2, H, W]: OFF, ON.   rates: refractory time (us), leak and shot noise (per second).
    out: columns x, y, t (us after the start), p.   filled: events in `out`, and the pixel to go on with. After False,
        enlarge the columns, or take what is in them and set filled[0] to 0, and call again.
    """
    refractory, leak, shot = rates
    x, y, t, p = out
    n, width = filled[0], seen.shape[1]
    for cell in range(filled[1], seen.size):
        i, j = cell // width, cell % width
        off, on = thresholds[0, i, j], thresholds[1, i, j]
        slope = (target[i, j] - seen[i, j]) / span + leak * on * 1e-6
        rate = shot * 1e-6 * (1 - (1 - IN_LIGHT) * min(math.exp(middle[i, j]), 1.0))
        at, d = release[i, j], difference[i, j]
        while at < span:
            left = span - at
            crossing, noise = next_crossing(d, slope, left, on, off), math.inf
            if rate > 0:
                noise = max(hazard[i, j], 0.0) / rate
            wait = min(crossing, noise, left)
            if wait < min(crossing, noise):
                hazard[i, j] -= rate * left
                at, d = span, d + slope * left
                break
            if n == len(t):
                filled[0], filled[1], release[i, j], difference[i, j] = n, cell, at, d
                return False
            hazard[i, j] -= rate * wait
            rising = slope > 0
            if noise < crossing:
                rising = uniform(generators, i, j) <= 0.5
                hazard[i, j] = -math.log(uniform(generators, i, j))
            x[n], y[n], t[n], p[n] = j, i, at + wait, rising
            n += 1
            at, d = at + wait + refractory, 0.0
        release[i, j], difference[i, j] = at - span, d
    filled[0], filled[1] = n, 0
    return True


@numba.njit(cache=True, nogil=True)
def next_crossing(d, slope, left, on, off):
    """Microseconds until d reaches a threshold, at most `left`; infinite where it does not."""
    if slope > 0 and d + slope * left >= on - TOLERANCE:
        return min(max(on - d, 0.0) / slope, left)
    if slope < 0 and d + slope * left <= TOLERANCE - off:
        return min(max(off + d, 0.0) / -slope, left)
    return math.inf
