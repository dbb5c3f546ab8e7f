"""From the nodes of a network file to connected Lava processes. Python 3.10, lava-nc and NumPy only; part of `lava_runner.py`.

Lava's maps are (W, H, C), the file's are [C, H, W]. Branches are held back by the delays that the file states.
"""

import os

import lava_cells as C
import lava_processes as P
import numpy as np
from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.process import Conv
from lava.proc.dense.models import PyDenseModelBitAcc
from lava.proc.dense.process import Dense
from lava.proc.io.source import PySendModelFixed, RingBuffer
from lava.proc.sparse.models import PySparseModelBitAcc
from lava.proc.sparse.process import Sparse

MODELS = {**P.MODELS, **C.MODELS}
LARGEST_MATRIX = 2**23      # weights of a convolution written out as a matrix
SPARSE_FROM, SPARSE_SHARE = 2**18, 0.1      # a matrix that large with no more weights than that share runs as Lava's Sparse, then 4 times faster than its Dense
READOUTS = ("readout", "stepreadout", "sumreadout")
NEURONS = {"lif": ("spikes", "membranes", "currents"), **dict.fromkeys(("cell", "recurrentcell"), ("spikes", "membranes", "currents", "adaptations"))}


def to_lava(shape):
    """[C, H, W] -> (W, H, C); other shapes as they are."""
    return tuple(shape[::-1]) if len(shape) == 3 else tuple(shape)


def matrix(weight, in_shape, out_shape, p):
    """A convolution as a matrix [W'*H'*O, W*H*C] over flattened (W, H, C) maps. weight in PyTorch order."""
    (C, H, W), (outputs, rows, columns) = in_shape, out_shape
    result = np.zeros((columns, rows, outputs, W, H, C), np.int32)
    share, per_group = outputs // p["groups"], weight.shape[1]
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            for y in range(rows):
                for x in range(columns):
                    sy = y * p["stride"][0] - p["padding"][0] + i * p["dilation"][0]
                    sx = x * p["stride"][1] - p["padding"][1] + j * p["dilation"][1]
                    if 0 <= sy < H and 0 <= sx < W:
                        for g in range(p["groups"]):
                            out, inp = slice(g * share, (g + 1) * share), slice(g * per_group, (g + 1) * per_group)
                            result[x, y, out, sx, sy, inp] += weight[out, :, i, j]
    return result.reshape(columns * rows * outputs, W * H * C)


class Builder:
    """Turns nodes into connected Lava processes. `outs` maps a node to its port, in Lava's layout of its shape."""

    def __init__(self, document, arrays, data, scratch, unroll, probe=(), live=False):
        self.nodes = {n["name"]: n for n in document["nodes"]}
        self.arrays, self.latency, self.scratch, self.unroll = arrays, document["latency"], scratch, unroll
        self.recordings, self.steps, self.data = data.shape[0], data.shape[1], data
        self.probe, self.live = probe, live
        self.total = self.steps * self.recordings + max(self.latency.values())
        self.delays = {name: [0] * len(n["inputs"]) for name, n in self.nodes.items()}
        for edge in document["edges"]:
            self.delays[edge["to"]][edge["port"]] = edge["delay"]
        self.outs, self.models, self.bits, self.first, self.processes, self.watches = {}, {}, {}, None, {}, {}
        for node in document["nodes"]:
            self.outs[node["name"]] = getattr(self, node["kind"])(node, node["parameters"])
            self.bits[node["name"]] = self.message_bits(node)
        os.makedirs(os.path.join(scratch, "values"), exist_ok=True)
        for name in self.watched():
            self.watches[name] = self.watch(name)

    def recorded(self, name):
        """What a neuron writes down: of those that are probed everything; if no probe was asked for, spikes and membranes."""
        whole = NEURONS.get(self.nodes[name]["kind"], ())
        if self.live:       # read between steps
            return ()
        return whole if name in self.probe else () if self.probe else whole[:2]

    def watched(self):
        """Nodes whose output is looked at: those that are probed and, between steps, neurons and the readout."""
        if not self.live:
            return [name for name in self.probe if self.nodes[name]["kind"] not in NEURONS]
        kinds = READOUTS if self.probe else (*READOUTS, *NEURONS)
        return [name for name, node in self.nodes.items() if name in self.probe or node["kind"] in kinds]

    def watch(self, name):
        """A process that looks on at what a node sends."""
        shape, window = self.shape(name), self.window(self.nodes[name])
        window["path"] = os.path.join(self.scratch, "values", name)
        process = self.keep(P.Watch(shapes=[shape], out_shape=shape, **window), P.WatchModel)
        self.outs[name].connect(process.a0)
        return process

    def message_bits(self, node):
        """0 where the node gives spikes; else 31: Lava then multiplies by the value instead of by (value != 0)."""
        if node["kind"] in ("tokens", "flatten", "delay", "maxpool"):
            return self.bits[node["inputs"][0]]
        spikes = node["kind"] == "lif" or 1 in (node["parameters"].get(k) for k in ("message_bits", "levels"))
        return 0 if spikes else 31

    def keep(self, process, model):
        self.models[process] = model
        self.first = self.first or process
        return process

    def shape(self, name):
        return to_lava(self.nodes[name]["shape"])

    def window(self, node):
        """When the recordings pass a node: first and last time step, and where each of them starts modulo T."""
        first = 1 + self.latency[node["name"]]
        return {"first": first, "last": first + self.steps * self.recordings - 1,
                "path": os.path.join(self.scratch, node["name"])}

    def own(self, kind, node, model=None, **constants):
        """A process of ours, connected; its ports apply the delays."""
        process = self.keep(kind(shapes=[self.shape(s) for s in node["inputs"]], out_shape=to_lava(node["shape"]),
                                 delays=self.delays[node["name"]], **constants), model or MODELS[kind])
        self.processes[node["name"]] = process
        for i, source in enumerate(node["inputs"]):
            self.outs[source].connect(getattr(process, f"a{i}"))
        return process.out

    def source(self, node):
        """The single input of a Lava process of its own, held back if the file says so."""
        (name,), (delay,) = node["inputs"], self.delays[node["name"]]
        if not delay:
            return self.outs[name]
        shape = self.shape(name)
        process = self.keep(P.Delay(shapes=[shape], out_shape=shape, delays=[delay]), P.DelayModel)
        self.outs[name].connect(process.a0)
        return process.out

    def input(self, node, p):
        stream = self.data.reshape(-1, *node["shape"])
        stream = stream.transpose(3, 2, 1, 0) if stream.ndim == 4 else np.moveaxis(stream, 0, -1)
        rest = np.zeros((*stream.shape[:-1], 1 + max(self.latency.values())), stream.dtype)
        return self.keep(RingBuffer(data=np.concatenate([stream, rest], -1).astype(np.int32)), PySendModelFixed).s_out

    def conv(self, node, p):
        weight = self.arrays[node["name"] + ".weight"].astype(np.int32)
        in_shape, out_shape = self.nodes[node["inputs"][0]]["shape"], node["shape"]
        pairs, size = weight.shape[0] * weight.shape[1], int(np.prod(in_shape)) * int(np.prod(out_shape))
        bits = self.bits[node["inputs"][0]]
        unrolled = matrix(weight, in_shape, out_shape, p) if pairs >= self.unroll and size <= LARGEST_MATRIX else None
        # Where padding hides every positive weight, Dense would take the matrix for an inhibitory one, which ends at -255.
        if unrolled is not None and (unrolled.max() > 0 or unrolled.min() >= -255):
            process = self.keep(Dense(weights=unrolled, num_message_bits=bits), PyDenseModelBitAcc)
            self.source(node).reshape(process.s_in.shape).connect(process.s_in)
            return process.a_out.reshape(to_lava(out_shape))
        kernel = np.ascontiguousarray(weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1))
        process = self.keep(Conv(weight=kernel, input_shape=to_lava(in_shape), num_message_bits=bits, groups=p["groups"],
                                 **{k: tuple(p[k][::-1]) for k in ("stride", "padding", "dilation")}), PyConvModelFixed)
        self.source(node).connect(process.s_in)
        return process.a_out

    def dense(self, node, p):
        weight = self.arrays[node["name"] + ".weight"].astype(np.int32)
        if len(node["shape"]) == 2:
            return self.own(P.TokenDense, node, weights=weight)
        thin = weight.size >= SPARSE_FROM and np.count_nonzero(weight) <= SPARSE_SHARE * weight.size
        kind, model = (Sparse, PySparseModelBitAcc) if thin else (Dense, PyDenseModelBitAcc)
        process = self.keep(kind(weights=weight, num_message_bits=self.bits[node["inputs"][0]]), model)
        self.source(node).connect(process.s_in)
        return process.a_out

    def lif(self, node, p):
        shape, window = to_lava(node["shape"]), self.window(node)
        bias = np.broadcast_to(self.arrays[node["name"] + ".bias_mant"], shape).astype(np.int32)
        process = self.keep(P.RecordedLIF(
            shape=shape, du=p["du"], dv=p["dv"], vth=p["vth"], bias_mant=bias, bias_exp=np.full(shape, p["bias_exp"]),
            reset_interval=self.steps, reset_offset=window["first"], what=self.recorded(node["name"]), **window), P.RecordedLIFModel)
        self.processes[node["name"]] = process
        self.source(node).connect(process.a_in)
        return process.s_out

    def cell(self, node, p):
        constants = {k: self.arrays[f"{node['name']}.{k}"].astype(np.int64) for k in ("dv", "vth", "du", "bias_mant", "dh", "jump")}
        bias = constants.pop("bias_mant") << p["bias_exp"]
        return self.own(C.Cell, node, bias=bias, weight=self.arrays.get(node["name"] + ".weight"), reset=p["reset"], levels=p["levels"],
                        interval=self.steps, what=self.recorded(node["name"]), **constants, **self.window(node))

    recurrentcell = cell

    def delay(self, node, p):
        return self.own(C.Shift, node, steps=p["steps"], interval=self.steps, first=self.window(node)["first"])

    def sumpool(self, node, p):
        return self.own(C.SumPool, node, **{k: p[k][::-1] for k in ("kernel", "stride", "padding")})

    def attention(self, node, p):
        return self.own(P.Attention, node, heads=p["heads"], weight=p["weight"])

    def maxpool(self, node, p):
        return self.own(P.Pool, node, **{k: p[k][::-1] for k in ("kernel", "stride", "padding")})

    def add(self, node, p):
        return self.own(P.Add, node, P.add_model(len(node["inputs"])))

    def tokens(self, node, p):
        return self.source(node).transpose((1, 0, 2)).reshape(to_lava(node["shape"]))

    def flatten(self, node, p):
        out = self.source(node)
        return (out.transpose((2, 1, 0)) if len(out.shape) == 3 else out).reshape(to_lava(node["shape"]))

    def tokensum(self, node, p):
        return self.own(P.TokenSum, node)

    def readout(self, node, p):
        window = self.window(node)
        return self.own(P.Readout, node, bias=self.arrays[node["name"] + ".bias"].astype(np.int64),
                        interval=1 if node["kind"] == "stepreadout" else self.steps, offset=window["first"], **window)

    stepreadout = sumreadout = readout
