"""Runs a netx file by lava-dl's own reader, in Lava's interpreter; a helper of test_netx.py.

    python netx_by_lava_dl.py LAVA_DL network.net inputs.npy out.npz MESSAGE_BITS

LAVA_DL: folder with lava-dl's `lava/lib/dl/netx` and h5py. inputs: [T, ...] in PyTorch's layout, one recording. out:
spikes/<i> and membranes/<i> of layer i of lava-dl's network, steps of the pipeline included, PyTorch's layout.
"""

import os
import sys
import types

sys.path.insert(0, sys.argv[1])
os.environ.setdefault("OMP_NUM_THREADS", "1")
try:
    import torch  # noqa: F401
except ImportError:     # its reader of CUBA layers does without
    for name in ("slayer", "slayer.neuron", "slayer.neuron.rf", "netx.sequential_modules"):
        sys.modules[f"lava.lib.dl.{name}"] = module = types.ModuleType(name)
        module.__file__ = os.path.join(sys.argv[1], "lava", "lib", "dl", "netx", "__init__.py")     # Lava asks where it lies
    sys.modules["lava.lib.dl.slayer.neuron.rf"].neuron_params = None

import numpy as np  # noqa: E402
from lava.lib.dl.netx.hdf5 import Network  # noqa: E402
from lava.magma.core.run_conditions import RunSteps  # noqa: E402
from lava.magma.core.run_configs import Loihi2SimCfg  # noqa: E402
from lava.proc.io.source import RingBuffer  # noqa: E402
from lava.proc.monitor.process import Monitor  # noqa: E402


def main(file, inputs, out, bits):
    data = np.load(inputs)
    steps = len(data)
    # without an input layer its offsets count from one step too early: what biases stirred up meanwhile would stay
    network = Network(file, input_message_bits=bits if bits > 1 else 0, reset_interval=steps, reset_offset=1)
    total = steps + len(network)
    stream = data.transpose(3, 2, 1, 0) if data.ndim == 4 else data.T
    if stream.shape[:-1] != tuple(network.inp.shape):       # flattened before the first layer, in the order C, H, W
        stream = data.reshape(steps, -1).T
    stream = np.concatenate([stream, np.zeros((*stream.shape[:-1], len(network)), stream.dtype)], -1)
    source = RingBuffer(data=stream.astype(np.int32))
    source.s_out.connect(network.inp)
    probes = []
    for layer in network.layers:
        for what in (layer.neuron.s_out, layer.neuron.v):
            probe = Monitor()
            probe.probe(what, total)
            probes.append(probe)
    network.run(condition=RunSteps(num_steps=total), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    found = {}
    for i, probe in enumerate(probes):
        (values,) = next(iter(probe.get_data().values())).values()
        x = np.asarray(values).reshape(total, *network.layers[i // 2].neuron.v.shape)
        found[f"{('spikes', 'membranes')[i % 2]}/{i // 2}"] = x.transpose(0, 3, 2, 1) if x.ndim == 4 else x
    network.stop()
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[2:5], int(sys.argv[5]))
