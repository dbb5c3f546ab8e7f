"""SynSense Xylo Audio 2: one core of leaky integrate-and-fire neurons, all dense."""

from neuro.deploy.chips.chip import Chip, Fact, Shapes, unknown

DOC = "rockpool, devices/xylo"

XYLO = Chip(
    name="xylo",
    title="SynSense Xylo Audio 2",
    memory="kernels",
    cores=Fact(1, DOC),
    core={},
    whole={"inputs": Fact(16, DOC), "hidden": Fact(1000, DOC), "outputs": Fact(8, DOC)},
    splits=Fact(False, f"{DOC}: there is one core"),
    shares_cores=Fact(True, f"{DOC}: there is one core"),
    first=Shapes(), conv=None, dense=Shapes(),
    weight_bits=Fact((8,), DOC), input_bits=Fact(4, f"{DOC}: up to 15 events per step are assumed", "recalled"),
    spike_bits=Fact(5, f"{DOC}: up to 31 spikes per step"), state_bits=Fact(16, DOC),
    delays=Fact(0, DOC), steps=Fact("clocked", f"{DOC}: fixed dt"),
    leak=Fact(True, f"{DOC}: bit-shift decay, v -= v >> dash"), decays=Fact("shift", f"{DOC}: v -= v >> dash, dash = round(log2(tau/dt)); by 1 where that is 0"), current=Fact(True, f"{DOC}: 2 synapses per hidden neuron"),
    resets=Fact(("subtract",), f"{DOC}: several spikes per step by subtraction", "recalled"),
    operations={
        "bias": Fact("yes", DOC, "recalled"), "residual": Fact("no", f"{DOC}: not built here"), "attention": Fact("no", DOC),
        "recurrent": Fact("yes", f"{DOC}: hidden neurons only"), "max_pool": Fact("no", "one core of neurons, no maps", "inferred"),
        "avg_pool": Fact("no", "one core of neurons, no maps", "inferred"), "groups": Fact("no", "no convolutions", "inferred"),
        "dilation": Fact("no", "no convolutions", "inferred"), "conv1d": Fact("no", "no convolutions", "inferred"), "token_mean": Fact("no", DOC, "inferred"),
        "readout": Fact("spikes counted: the last layer fires", f"{DOC}: output neurons spike"), "adaptive": Fact("no", DOC, "inferred"),
        "relay": Fact("no", DOC), "norm": Fact("no", "only the neuron's update and the weights are computed", "inferred"),
    },
    fan_out=unknown("sparse routing limits fan-in and fan-out; no figure was found"),
    learning=Fact("none", f"{DOC}: no learning is described"),
    energy={"power_mw": Fact((0.291, 0.291), "Bos and Muir 2024, arXiv 2406.15112, abstract: 291 uW dynamic on a keyword benchmark, 6.6 uJ per inference; static power not included", "secondary")},
    lacks=(
        "Fan-in by sparse routing: a limit exists, no figure was found, none is applied.",
        "That output neurons may have no loop is not checked.",
        "Decays become shifts in whole numbers; what that changes is not simulated here (neuro.deploy.shift_decay has one step of it).",
        "Xylo Audio 3 (992 hidden, 32 outputs) and IMU (496 hidden, 16 outputs) differ.",
    ),
)  # fmt: skip
