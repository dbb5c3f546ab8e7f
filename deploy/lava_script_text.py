"""The text of network.py that stands around its nodes: imports and helpers before them, running and comparing behind.

`HEAD` and `TAIL` are filled in by `str.format` with the facts of a network, see `lava_script`.
"""

SPARSE = """from lava.proc.sparse.models import PySparseModelBitAcc
from lava.proc.sparse.process import Sparse
"""

HEAD = '''"""{title}: {nodes} nodes, {weights} weights, {neurons} neurons, in Lava's CPU simulation.

    python network.py                          runs example.npz and compares every spike, membrane and score
    python network.py inputs.npy out.npz       runs recordings: integers [R, T, {shape}], 0 .. {most}

Python 3.10, lava-nc 0.10.0, numpy<2. Recordings are streamed back to back; every neuron starts each of them from zero.
A Conv, Dense or attention delivers one step later, so that a node sees a recording `latency` steps late: step t of
recording r at Lava's time step 1 + latency + r * T + t.

Shapes in comments are those of PyTorch, [C, H, W]; Lava's maps are (W, H, C). Kernels are (C_out, kx, ky, C_in) and
turned round: Lava's Conv is a convolution, PyTorch's a correlation. num_message_bits=0: spikes, only "not zero" of them
counts; 31: whole numbers. `reset_interval`, `interval`: T, so that each recording starts from zero. lava_cells.py has
the equations of the neurons that Lava lacks.

To look between steps: processes, models = build(stream_of(data), T, R, folder); with any of the processes,
process.run(RunSteps(1), configuration(models)), again and again; then processes["NODE"].v.get(), .u.get() of a neuron;
process.stop() at the end.

out.npz: spikes/<layer> and membranes/<layer> [R, T, ...] and acc {answers}, in the order [C, H, W]; scores are
{scores}.
"""

import os
import sys
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import lava_cells as cells
import lava_processes as ours
import lava_workers
import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.process import Conv
from lava.proc.dense.models import PyDenseModelBitAcc
from lava.proc.dense.process import Dense
from lava.proc.io.source import PySendModelFixed, RingBuffer
{sparse}
HERE = os.path.dirname(os.path.abspath(__file__))
LATENCY = {latency}     # of the readout, in steps
{layers}
LAVAS = {{Conv: PyConvModelFixed, Dense: PyDenseModelBitAcc, {sparse_model}RingBuffer: PySendModelFixed}}
MODELS = {{**LAVAS, **ours.MODELS, **cells.MODELS}}


def build(stream, T, R, logs):
    """Processes for R recordings of T steps.

    stream: {layout}, time last. logs: a folder for what neurons and readout write down.
    Returns the processes by node, and the map from process to model by which Lava runs each of them in fixed point.
    """
    W = np.load(os.path.join(HERE, "arrays.npz"))
    processes, models = {{}}, {{}}

    def place(node, process, model=None):
        processes[node], models[process] = process, model or MODELS[type(process)]
        return process

    def window(latency, name):
        """The time steps in which recordings pass a node; Lava's first is 1."""
        return dict(first=1 + latency, last=latency + T * R, path=os.path.join(logs, name))
'''

TAIL = '''
    return processes, models


def stream_of(data):
    """data [R, T, {shape}] -> what the RingBuffer sends: {layout}, time last; zeros while the last one leaves."""
    R, T = data.shape[:2]
    stream = np.moveaxis(data.reshape(R * T, *data.shape[2:]), 0, -1){reorder}
    return np.concatenate([stream, np.zeros((*stream.shape[:-1], 1 + LATENCY), stream.dtype)], -1).astype(np.int32)


def configuration(models):
    """By which Lava runs every process in fixed point, on the CPU."""
    return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)


def run(data):
    """data [R, T, {shape}] -> arrays by name, as out.npz holds them."""
    R, T = data.shape[:2]
    fits = data.shape[2:] == {shape_tuple} and data.dtype.kind in "iub" and data.size
    if not fits or data.min() < 0 or data.max() > {most}:
        raise ValueError(f"inputs {{data.shape}} {{data.dtype}}: expected [R, T, {shape}], integers 0 .. {most}")
    stream = stream_of(data)
    with tempfile.TemporaryDirectory() as logs:
        processes, models = build(stream, T, R, logs)
        first = next(iter(processes.values()))      # running one runs all that are connected
        try:
            first.run(RunSteps(num_steps=T * R + LATENCY), configuration(models))
        finally:
            first.stop()
        return collect(logs, T, R)


def collect(logs, T, R):
    """What neurons and readout wrote down, maps in the order [C, H, W]."""
    found = {{"acc": np.load(os.path.join(logs, "{readout}.npy")).reshape(R, T, -1){end}}}
    for layer in LAYERS:
        with np.load(os.path.join(logs, layer + ".npz")) as log:
            for what in ("spikes", "membranes"):
                x = log[what].reshape(R, T, *log[what].shape[1:])
                found[what + "/" + layer] = x.transpose(0, 1, 4, 3, 2) if x.ndim == 5 else x
    return found


def main(arguments):
    if len(arguments) == 2:
        np.savez(arguments[1], **run(np.load(arguments[0])))
        return 0
    if arguments:
        sys.exit("usage: python network.py [inputs.npy out.npz]")
    example = np.load(os.path.join(HERE, "example.npz"))
    found = run(example["inputs"])
    wrong = [name for name in found if not np.array_equal(found[name], example[name])]
    spikes = sum(int(x.sum()) for name, x in found.items() if name.startswith("spikes/"))
    compared = sum(x.size for name, x in found.items() if name.startswith("spikes/"))
    verdict = f"DIFFERENT in {{wrong}}" if wrong else "equal"
    print(f"{{spikes}} spikes in {{compared}} neuron steps, every membrane and score: {{verdict}}")
    return 1 if wrong else 0


if __name__ == "__main__":
    lava_workers.watch()
    sys.exit(main(sys.argv[1:]))
'''
