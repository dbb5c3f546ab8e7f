"""Lava processes for the nodes of an integer network. Python 3.10, lava-nc and NumPy only.

Neurons are Lava's own `LIFReset` arithmetic, untouched: the subclass here only writes down what it computed. Convolutions
and vector products are Lava's own `Conv` and `Dense`. What Lava has no process for is here. A synapse sends at step t
what it gathered at t-1, as Lava's do; the others receive and send in one step. An input port may hold its values back
by a number of steps, which is how branches of unequal latency are aligned.

Maps are (W, H, C), Lava's order; tokens (N, D); vectors (D,).
"""

from collections import deque

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import PyLifResetModelBitAcc
from lava.proc.lif.process import LIFReset


class Log:
    """What a neuron did in the steps `first` .. `last`, saved under `path` as [steps, ...] once `last` has run.

    what: of spikes, membranes (after reset), currents and adaptations, those to write down.
    """

    def __init__(self, first, last, path, what):
        self.first, self.last, self.path, self.what = first, last, path, what
        self.kept = {name: [] for name in what}

    def write(self, step, **values):
        """values: arrays by name; only those asked for are kept."""
        if self.first <= step <= self.last:
            for name in self.what:
                self.kept[name].append(np.array(values[name], np.uint8 if name == "spikes" else np.int32))
        if step == self.last:
            np.savez(self.path, **{name: np.stack(arrays) for name, arrays in self.kept.items()})


class RecordedLIF(LIFReset):
    """Lava's LIFReset that saves what it computed, see Log. Its Vars u and v can be read between steps."""

    def __init__(self, *, first, last, path, what=("spikes", "membranes"), **kwargs):
        super().__init__(**kwargs)
        self.proc_params["log"] = (first, last, path, what)


@implements(proc=RecordedLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class RecordedLIFModel(PyLifResetModelBitAcc):
    implements_process = RecordedLIF        # Lava refuses to replace the inherited one

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.log_of_steps = Log(*proc_params["log"])

    def spiking_activation(self):
        self.fired = super().spiking_activation()
        return self.fired

    def run_spk(self):
        super().run_spk()
        self.log_of_steps.write(self.time_step, spikes=self.fired, membranes=self.v, currents=self.u)


class Node(AbstractProcess):
    """A process with input ports a0, a1, ..., one output, and constants for its model."""

    def __init__(self, *, shapes, out_shape, delays=None, **constants):
        super().__init__(shapes=shapes, out_shape=out_shape, delays=delays or [0] * len(shapes), **constants)
        for i, shape in enumerate(shapes):
            setattr(self, f"a{i}", InPort(shape=tuple(shape)))
        self.out = OutPort(shape=tuple(out_shape))


class NodeModel(PyLoihiProcessModel):
    """Receives, holds each input back by its delay, and sends `compute`, now or, for a synapse, in the next step."""

    a0: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    synapse = False

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.delays = proc_params["delays"]
        self.held = [deque(np.zeros(shape, np.int32) for _ in range(delay))
                     for shape, delay in zip(proc_params["shapes"], self.delays, strict=True)]
        self.buffer = np.zeros(proc_params["out_shape"], np.int32)

    def receive(self):
        values = []
        for i, queue in enumerate(self.held):
            queue.append(getattr(self, f"a{i}").recv())
            values.append(queue.popleft())
        return values

    def run_spk(self):
        if self.synapse:
            self.out.send(self.buffer)
            self.buffer = self.compute(*self.receive()).astype(np.int32)
        else:
            self.out.send(self.compute(*self.receive()).astype(np.int32))

    def compute(self, *inputs):
        raise NotImplementedError


class Delay(Node):
    """Its input, `delays[0]` steps later."""


@implements(proc=Delay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class DelayModel(NodeModel):
    def compute(self, a):
        return a


class Watch(Node):
    """Looks on: keeps what a port sends in the Var `value`, for whoever reads it between steps, and saves steps `first` .. `last`."""

    def __init__(self, **how):
        super().__init__(**how)
        self.value = Var(shape=tuple(how["out_shape"]), init=0)


@implements(proc=Watch, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class WatchModel(NodeModel):
    value: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.kept = []

    def compute(self, a):
        p = self.proc_params
        self.value = a.astype(np.int32)
        if p["first"] <= self.time_step <= p["last"]:
            self.kept.append(self.value)
        if self.time_step == p["last"]:
            np.save(p["path"], np.stack(self.kept))
        return self.value


class TokenDense(Node):
    """Synapse: x w^T for each token. weights [O, I]."""


@implements(proc=TokenDense, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class TokenDenseModel(NodeModel):
    synapse = True

    def compute(self, x):
        return x @ self.proc_params["weights"].T


class Attention(Node):
    """Synapse: weight * (q k^T) v in each head."""


@implements(proc=Attention, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class AttentionModel(NodeModel):
    a1: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    a2: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    synapse = True

    def compute(self, q, k, v):
        N, D = q.shape
        heads = self.proc_params["heads"]
        q, k, v = (x.reshape(N, heads, D // heads).transpose(1, 0, 2) for x in (q, k, v))
        product = self.proc_params["weight"] * ((q @ k.transpose(0, 2, 1)) @ v)
        return product.transpose(1, 0, 2).reshape(N, D)


class Pool(Node):
    """Largest value of each window of a (W, H, C) map, padding left out; kernel, stride, padding in (x, y) order."""


@implements(proc=Pool, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PoolModel(NodeModel):
    def compute(self, a):
        (kx, ky), (sx, sy), (px, py) = (self.proc_params[k] for k in ("kernel", "stride", "padding"))
        W, H, _ = self.proc_params["out_shape"]
        a = np.pad(a, ((px, px), (py, py), (0, 0)), constant_values=np.iinfo(a.dtype).min)
        windows = [a[i:, j:][:(W - 1) * sx + 1:sx, :(H - 1) * sy + 1:sy] for i in range(kx) for j in range(ky)]
        return np.maximum.reduce(windows)


class TokenSum(Node):
    """(N, C) -> (C,): sum over tokens."""


@implements(proc=TokenSum, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class TokenSumModel(NodeModel):
    def compute(self, a):
        return a.sum(axis=0)


class Add(Node):
    """Sum of its inputs."""


class AddModel(NodeModel):
    def compute(self, *inputs):
        return sum(inputs)


def add_model(ports):
    """The model of an Add with this many inputs: Lava finds ports as class attributes, so each count is a class."""
    names = {f"a{i}": LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24) for i in range(ports)}
    model = type(f"AddModel{ports}", (AddModel,), {**names, "__module__": __name__})
    globals()[model.__name__] = model
    return tag("fixed_pt")(requires(CPU)(implements(proc=Add, protocol=LoihiProtocol)(model)))


class Readout(Node):
    """acc <- acc + a + bias, from zero where time_step % interval == offset % interval: of an interval of 1 in every step.

    Saves acc of every step, [steps, classes].
    Its output is acc, for whoever wants to look at it."""


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ReadoutModel(NodeModel):
    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.log = []
        self.acc = np.zeros(proc_params["out_shape"], np.int64)

    def compute(self, a):
        p = self.proc_params
        if self.time_step % p["interval"] == p["offset"] % p["interval"]:
            self.acc[:] = 0
        self.acc += a + p["bias"]
        if p["first"] <= self.time_step <= p["last"]:
            self.log.append(self.acc.copy())
        if self.time_step == p["last"]:
            np.save(p["path"], np.stack(self.log))
        return self.acc


MODELS = {RecordedLIF: RecordedLIFModel, Delay: DelayModel, Watch: WatchModel, TokenDense: TokenDenseModel, Attention: AttentionModel,
          Pool: PoolModel, TokenSum: TokenSumModel, Readout: ReadoutModel}
