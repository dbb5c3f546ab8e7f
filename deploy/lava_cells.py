"""Lava processes for neurons that Lava lacks, and for sums of windows and delays. Python 3.10, lava-nc and NumPy only.

A cell is Lava's fixed-point LIF with constants per channel, soft reset, several levels, an adaptive threshold, feedback. With
q(x, k) = sign(x) * (|x| * (4096 - k) >> 12), per step, for the input a:

    a <- a + weight s[t-1]                              with feedback
    u <- q(u, du + 1) + (a << 6) + bias
    v <- clip(q(v, dv) + u, -(2^23 - 1), 2^23 - 1)
    theta = (vth << 6) + h
    s  = how many of 1 .. levels are k with v > k * theta
    v <- 0 where s ("zero"),  v - s * theta ("subtract"),  v ("none")
    h <- min(q(h, dh) + s * jump, 2^23 - 1)

Maps are (W, H, C), Lava's order, so that a constant per channel lies on the last axis.
What a recording left behind, in neurons, feedback or delays, is cleared where `time_step % interval == first % interval`.
"""

from collections import deque

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava_processes import Log, Node, NodeModel

TOP = 2**23 - 1     # of a register


def decay(x, k):
    """sign(x) * (|x| * (4096 - k) >> 12): rounds toward zero, as Lava does."""
    return np.sign(x) * ((np.abs(x) * (4096 - k)) >> 12)


class Cell(Node):
    """dv, vth, du, bias, dh, jump: numbers or one per channel, bias shifted; weight of the feedback [N, N] or None.

    Saves what it did in the steps `first` .. `last`, see lava_processes.Log. Its Vars u, v and h (current, membrane after reset,
    adaptation) can be read between steps.
    """

    def __init__(self, *, weight=None, what=("spikes", "membranes"), **how):
        super().__init__(weight=weight, what=what, **how)
        self.u, self.v, self.h = (Var(shape=tuple(how["out_shape"]), init=0) for _ in range(3))


@implements(proc=Cell, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class CellModel(NodeModel):
    u: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=24)
    v: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=24)
    h: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=24)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.clear()
        self.log_of_steps = Log(*(proc_params[k] for k in ("first", "last", "path", "what")))

    def clear(self):
        self.u, self.v, self.h, self.s = (np.zeros(self.proc_params["out_shape"], np.int64) for _ in range(4))

    def compute(self, a):
        p = self.proc_params
        if self.time_step % p["interval"] == p["first"] % p["interval"]:
            self.clear()
        a = a.astype(np.int64)
        if p["weight"] is not None:
            a = a + p["weight"].astype(np.int64) @ self.s
        self.u = decay(self.u, p["du"] + 1) + (a << 6) + p["bias"]
        late = self.s * (p["vth"] << 6) if p["reset"] == "late" else 0
        v = np.clip(decay(self.v, p["dv"]) - late + self.u, -TOP, TOP)
        theta = (p["vth"] << 6) + self.h
        self.s = sum((v > k * theta).astype(np.int64) for k in range(1, p["levels"] + 1))
        self.v = {"zero": np.where(self.s > 0, 0, v), "subtract": v - self.s * theta}.get(p["reset"], v)
        self.h = np.minimum(decay(self.h, p["dh"]) + self.s * p["jump"], TOP)
        self.log_of_steps.write(self.time_step, spikes=self.s, membranes=self.v, currents=self.u, adaptations=self.h)
        return self.s


class Shift(Node):
    """Its input of `steps` steps ago, zero before; unlike Delay, which aligns branches, a part of the function."""


@implements(proc=Shift, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ShiftModel(NodeModel):
    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.clear()

    def clear(self):
        p = self.proc_params
        self.past = deque(np.zeros(p["out_shape"], np.int32) for _ in range(p["steps"]))

    def compute(self, a):
        p = self.proc_params
        if self.time_step % p["interval"] == p["first"] % p["interval"]:
            self.clear()
        self.past.append(a)
        return self.past.popleft()


class SumPool(Node):
    """Sum of each window of a (W, H, C) map; kernel, stride, padding in (x, y) order."""


@implements(proc=SumPool, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SumPoolModel(NodeModel):
    def compute(self, a):
        (kx, ky), (sx, sy), (px, py) = (self.proc_params[k] for k in ("kernel", "stride", "padding"))
        W, H, _ = self.proc_params["out_shape"]
        a = np.pad(a, ((px, px), (py, py), (0, 0)))
        return sum(a[i:, j:][:(W - 1) * sx + 1:sx, :(H - 1) * sy + 1:sy] for i in range(kx) for j in range(ky))


MODELS = {Cell: CellModel, Shift: ShiftModel, SumPool: SumPoolModel}
