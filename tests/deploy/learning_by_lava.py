"""Runs Lava's own LearningDense in fixed point; a helper of test_learning_engine.py, run by Lava's interpreter.

    python learning_by_lava.py cases.json folder out.npz

cases.json: a list of {"name", "factors": 2 or 3, "kind": name of Lava's class of rule, "rule": its arguments, "sign": 1 mixed,
2 excitatory, 3 inhibitory}. Without a kind it is Loihi2FLearningRule or Loihi3FLearningRule. folder/NAME.npz: weight [O, I], tag [O, I], pre [T, I], post [T, O], and of three factors y1, y2, y3 [T, O].
out: NAME/weights, tag_1 [T, O, I], x1, x2 [T, I], y1, y2, y3 [T, O] after each step, activation [T, O] as it is sent.
"""

import json
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np  # noqa: E402
from lava.magma.core.learning.learning_rule import Loihi2FLearningRule, Loihi3FLearningRule  # noqa: E402
from lava.magma.core.run_conditions import RunSteps  # noqa: E402
from lava.magma.core.run_configs import Loihi2SimCfg  # noqa: E402
from lava.proc.dense.process import LearningDense  # noqa: E402
from lava.proc.io.source import RingBuffer  # noqa: E402
from lava.proc.learning_rules.r_stdp_learning_rule import RewardModulatedSTDP  # noqa: E402
from lava.proc.learning_rules.stdp_learning_rule import STDPLoihi  # noqa: E402
from lava.proc.monitor.process import Monitor  # noqa: E402
from lava.utils.weightutils import SignMode  # noqa: E402

KINDS = {k.__name__: k for k in (Loihi2FLearningRule, Loihi3FLearningRule, STDPLoihi, RewardModulatedSTDP)}
PROBED = ("weights", "tag_1", "x1", "x2", "y1", "y2", "y3")


def source(data, port):
    ring = RingBuffer(data=np.ascontiguousarray(data.T))
    ring.s_out.connect(port)


def run(case, given):
    three = case["factors"] == 3
    kind = case.get("kind", f"Loihi{case['factors']}FLearningRule")
    rule = KINDS[kind](**case["rule"])
    dense = LearningDense(weights=given["weight"], tag_1=given["tag"], learning_rule=rule, sign_mode=SignMode(case["sign"]))
    source(given["pre"], dense.s_in)
    source(given["post"], dense.s_in_bap)
    for name in ("y1", "y2", "y3") if three else ():
        source(given[name], getattr(dense, "s_in_" + name))
    steps, probes = len(given["pre"]), {}
    for name in (*PROBED, "activation"):
        probes[name] = Monitor()
        probes[name].probe(dense.a_out if name == "activation" else getattr(dense, name), steps)
    dense.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    found = {name: next(iter(next(iter(probe.get_data().values())).values())) for name, probe in probes.items()}
    dense.stop()
    return found


def main(cases, folder, out):
    found = {}
    with open(cases) as file:
        for case in json.load(file):
            with np.load(os.path.join(folder, case["name"] + ".npz")) as given:
                found.update({f"{case['name']}/{name}": x for name, x in run(case, given).items()})
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:4])
