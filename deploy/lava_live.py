"""Lava one step at a time, by orders on a pipe. Python 3.10, lava-nc and NumPy only; run by `lava_runner.py --live`.

An order is a line of JSON on stdin, its answer a line of JSON on what was stdout; everything else that is printed goes to stderr.

    {"do": "step"}                                   {"time": 4}             one more time step, RunSteps(1)
    {"do": "look", "node": "a.lif", "what": "u"}     {"file": "look.npy"}    a Var as it stands between two steps, int32

The end of stdin is the order to stop.
"""

import json
import os
import sys

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg


def private_answers():
    """Standard output for answers alone: what Lava and its workers print goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def serve(builder, answers, folder):
    """Obey until stdin ends. builder: with everything built and nothing run."""
    def answer(**values):
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    time = 0
    try:
        builder.first.create_runtime(run_cfg=Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=builder.models))
        answer(time=time)
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "step":
                builder.first.run(condition=RunSteps(num_steps=1))
                time += 1
                answer(time=time)
            else:
                value = np.asarray(look(builder, order["node"], order["what"]))
                np.save(os.path.join(folder, "look.npy"), value.astype(np.int32))
                answer(file="look.npy")
    finally:
        builder.first.stop()


def look(builder, node, what):
    """A Var in PyTorch's layout: u, v and h of the neuron itself, or what the node sent in the last step."""
    process = builder.watches[node].value if what == "value" else getattr(builder.processes[node], what)
    value = process.get().reshape(builder.shape(node))
    return value.transpose(2, 1, 0) if value.ndim == 3 else value
