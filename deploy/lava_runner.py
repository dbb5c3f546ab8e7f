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


def beside(name):
    """A module that stands beside this file, whose folder is not on the path."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_, _, BUILDING, W, LIVE = (beside(f"lava_{name}") for name in ("processes", "cells", "building", "workers", "live"))     # the first two for the third

VERSION = 1
NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")     # logs are files of this name
KINDS = {"input", "conv", "dense", "attention", "lif", "maxpool", "add", "tokens", "flatten", "tokensum", "readout",
         "cell", "recurrentcell", "sumpool", "delay", "stepreadout", "sumreadout"}


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
        elif node["kind"] in BUILDING.READOUTS:
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
        builder = BUILDING.Builder(document, arrays, data, scratch, unroll, tuple(probe), live is not None)
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
