"""Runs an integer network file in Lava's CPU simulation. Python 3.10, lava-nc and NumPy only; imports nothing of neuro.

    python lava_runner.py network.npz inputs.npy out.npz [--probe NODE ...] [--at STEP ...] [--unroll N] [--live]

inputs: integers [R, T, ...] in PyTorch's layout: R recordings, streamed back to back. Neurons and readout start each one
from zero: `reset_offset` is 1 + latency, because Lava's first time step is 1, and what biases stirred up while the
pipeline filled is cleared with it. out holds, aligned and in PyTorch's layout, `spikes/<layer>` uint8 and `membranes/<layer>`
int32 [R, T, ...], `acc` int64 [R, classes] (of a stepreadout [R, T, classes]), and `timing` (seconds to build, seconds to run, steps).
A neuron that is probed also gives `currents/<layer>`, and `adaptations/<layer>` if it is a cell; another node `values/<node>`,
what it sends. `--at` keeps these steps of each recording. `--live` obeys orders on stdin instead, see lava_live.py; nothing is written.
Delays are taken from the file as they stand.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != HERE]     # lava.py there would hide the package
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
from lava.magma.core.run_conditions import RunSteps  # noqa: E402
from lava.magma.core.run_configs import Loihi2SimCfg  # noqa: E402
from lava.proc.conv.models import PyConvModelFixed  # noqa: E402
from lava.proc.conv.process import Conv  # noqa: E402
from lava.proc.dense.models import PyDenseModelBitAcc  # noqa: E402
from lava.proc.dense.process import Dense  # noqa: E402
from lava.proc.io.source import PySendModelFixed, RingBuffer  # noqa: E402
from lava.proc.sparse.models import PySparseModelBitAcc  # noqa: E402
from lava.proc.sparse.process import Sparse  # noqa: E402


def beside(name):
    """A module that stands beside this file, whose folder is not on the path."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


P, C, W, LIVE = (beside(f"lava_{name}") for name in ("processes", "cells", "workers", "live"))
MODELS = {**P.MODELS, **C.MODELS}

VERSION = 1
LARGEST_MATRIX = 2**23      # weights of a convolution written out as a matrix
SPARSE_FROM, SPARSE_SHARE = 2**18, 0.1      # a matrix that large with no more weights than that share runs as Lava's Sparse, then 4 times faster than its Dense
NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")     # logs are files of this name
KINDS = {"input", "conv", "dense", "attention", "lif", "maxpool", "add", "tokens", "flatten", "tokensum", "readout",
         "cell", "recurrentcell", "sumpool", "delay", "stepreadout", "sumreadout"}
READOUTS = ("readout", "stepreadout", "sumreadout")
NEURONS = {"lif": ("spikes", "membranes", "currents"), **dict.fromkeys(("cell", "recurrentcell"), ("spikes", "membranes", "currents", "adaptations"))}


def load(path):
    """The document and arrays of a network file; raises ValueError for a damaged or newer one."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    document = json.loads(arrays.pop("document").tobytes())
    if document["format"] != "neuro integer network" or document["version"] > VERSION:
        raise ValueError(f"{path}: {document['format']!r} version {document['version']}, expected version {VERSION}")
    plain = {key: value for key, value in document.items() if key != "checksum"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(arrays):
        a = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {a.dtype.str} {list(a.shape)}".encode())
        digest.update(a.tobytes())
    if digest.hexdigest() != document["checksum"]:
        raise ValueError(f"{path}: the checksum does not match")
    for node in document["nodes"]:
        if not NAME.fullmatch(node["name"]) or node["kind"] not in KINDS:
            raise ValueError(f"{path}: {node['name']!r} of kind {node['kind']!r} is no node")
    return document, arrays


def check_inputs(data, node):
    """Raises ValueError unless data [R, T, ...] holds counts that this input node takes."""
    most = 2 ** node["parameters"]["message_bits"] - 1
    fits = data.dtype.kind in "iub" and list(data.shape[2:]) == node["shape"] and data.size
    if not fits or data.min() < 0 or data.max() > most:
        raise ValueError(f"inputs {list(data.shape)} {data.dtype}: expected [R, T, *{node['shape']}], integers 0..{most}")


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


def collect(builder, at):
    """What the processes saved, aligned, recording by recording, in PyTorch's layout; `at`: of these steps only, None: all."""
    lead, result = (builder.recordings, builder.steps), {}

    def aligned(x, name):
        x = x.reshape(lead + builder.shape(name))
        x = x.transpose(0, 1, 4, 3, 2) if x.ndim == 5 else x
        return x if at is None else x[:, at]

    for name, node in builder.nodes.items():
        path = os.path.join(builder.scratch, name)
        if recorded := builder.recorded(name):
            with np.load(path + ".npz") as log:
                result.update({f"{what}/{name}": aligned(log[what], name) for what in recorded})
        elif node["kind"] in READOUTS:
            result["acc"] = np.load(path + ".npy").reshape(lead + tuple(node["shape"]))
            if node["kind"] != "stepreadout":
                result["acc"] = result["acc"][:, -1]
        if name in builder.watches:
            result[f"values/{name}"] = aligned(np.load(os.path.join(builder.scratch, "values", name + ".npy")), name)
    return result


def check_probes(nodes, probe, at, steps):
    """Raises ValueError for names that are no nodes, and steps that are none of a recording."""
    wrong = [name for name in probe if name not in {node["name"] for node in nodes}] + [s for s in at or () if not 0 <= s < steps]
    if wrong:
        raise ValueError(f"no nodes, or no steps of {steps}: {wrong}")


def run(network, inputs, out, probe=(), at=None, unroll=256, live=None):
    """Run recordings [R, T, ...] and write `out`. unroll: convolutions with as many channel pairs become a matrix.

    live: where answers go if steps are run by orders; `out` is not written then.
    """
    document, arrays = load(network)
    data = np.load(inputs, allow_pickle=False)
    check_inputs(data, document["nodes"][0])
    check_probes(document["nodes"], probe, at, data.shape[1])
    folder = os.path.dirname(os.path.abspath(out))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        begin = time.perf_counter()
        builder = Builder(document, arrays, data, scratch, unroll, tuple(probe), live is not None)
        if live is not None:
            return LIVE.serve(builder, live, folder)
        config = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=builder.models)
        try:
            builder.first.create_runtime(run_cfg=config)
            built = time.perf_counter()
            builder.first.run(condition=RunSteps(num_steps=builder.total))
            ran = time.perf_counter()
        finally:
            builder.first.stop()
        timing = np.array([built - begin, ran - built, builder.total])
        np.savez(out, timing=timing, **collect(builder, at))


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for argument in ("network", "inputs", "out"):
        parser.add_argument(argument)
    parser.add_argument("--probe", nargs="*", default=(), help="nodes to look at; default: spikes and membranes of every neuron")
    parser.add_argument("--at", nargs="*", type=int, default=None, help="steps of each recording to keep of them; default all")
    parser.add_argument("--unroll", type=int, default=256, help="channel pairs from which a convolution is a matrix")
    parser.add_argument("--live", action="store_true", help="obey orders on stdin, see lava_live.py")
    arguments = vars(parser.parse_args())
    run(**arguments | {"live": LIVE.private_answers() if arguments["live"] else None})


if __name__ == "__main__":
    W.watch()
    main()
