"""SynSense Speck / DYNAP-CNN: asynchronous, nine cores of convolution, integrate-and-fire and sum pooling."""

from neuro.deploy.chips.chip import Chip, Fact, Shapes, unknown

DOC = "sinabs, docs/speck and backend/dynapcnn"
Ki = 1024
SHAPES = Shapes(
    kernels=Fact(tuple(range(1, 17)), f"{DOC}: square, up to 16"), strides=Fact({0: (1, 2, 4, 8)}, DOC), padding=Fact(7, DOC),
    channels=Fact(1024, DOC), in_size=Fact((1, 128), DOC), out_size=Fact((1, 64), DOC),
    max_pools=Fact((), f"{DOC}: sum pooling only"), sum_pools=Fact(((1, 1), (2, 2), (4, 4)), DOC),
)  # fmt: skip

SPECK = Chip(
    name="speck",
    title="SynSense Speck / DYNAP-CNN",
    memory="words",
    cores=Fact(9, DOC),
    core={
        "kernel_words": Fact(tuple(n * Ki for n in (16, 16, 16, 32, 32, 64, 64, 16, 16)), DOC),
        "neuron_words": Fact(tuple(n * Ki for n in (64, 64, 64, 32, 32, 16, 16, 16, 16)), DOC),
        "bias_words": Fact(1024, DOC),
    },
    whole={},
    splits=Fact(False, f"{DOC}: a layer is one core"),
    shares_cores=Fact(False, f"{DOC}: a core is one layer"),
    first=SHAPES, conv=SHAPES, dense=SHAPES,
    weight_bits=Fact((8,), DOC), input_bits=Fact(1, f"{DOC}: events"), spike_bits=Fact(1, f"{DOC}: unit spikes"), state_bits=Fact(16, DOC),
    delays=Fact(0, DOC), steps=Fact("none", f"{DOC}: events are processed as they come"), one_spike=Fact(True, f"{DOC}: an event triggers one spike of a neuron at most"),
    leak=Fact(False, f"{DOC}: none but a constant negative bias through a slow clock"), current=Fact(False, DOC),
    resets=Fact(("subtract", "zero"), f"{DOC}: subtraction is the default"),
    operations={
        "bias": Fact("added by a slow clock, not per step", DOC),
        "residual": Fact("no", f"{DOC}: only within two destinations per core, which is not built here"),
        "attention": Fact("no", DOC), "recurrent": Fact("no", f"{DOC}: not recommended"),
        "max_pool": Fact("no", f"{DOC}: sum pooling only"),
        "avg_pool": Fact("sum pooling, its divisor taken into the next weights", f"{DOC}: AvgPool becomes SumPool"),
        "groups": Fact("full kernels, zero outside the groups", "exact", "inferred"), "dilation": Fact("no", "not among the parameters of a core", "inferred"),
        "conv1d": Fact("no", "kernels are square", "inferred"), "token_mean": Fact("no", "not among the parameters of a core", "inferred"),
        "readout": Fact("spikes counted in the readout: the last layer fires", DOC), "adaptive": Fact("no", DOC),
        "relay": Fact("no", DOC), "norm": Fact("no", "only the neuron's update and the weights are computed", "inferred"),
    },
    fan_out=Fact(2, f"{DOC}: destinations per core"),
    learning=Fact("none", f"{DOC}: no learning is described"),
    energy={"power_mw": Fact((0.42, 0.70), "Yao et al. 2024, Nature Communications 15:4464, abstract: the processor at rest, and in real-time use", "secondary"), "synapses_per_s": unknown("a limit exists, above it the chip stalls; no figure was found")},
    lacks=(
        "An event triggers at most one spike per neuron and there are no steps: the chip agrees with a clocked network only as far as max|w| < threshold.",
        "Synaptic events per second beyond which the chip stalls: no figure was found.",
        "The readout counts 15 classes; of more, the spikes of the last core are read by the host, which is not checked.",
        "Sharing one scale per layer between weights, bias and threshold is not simulated here.",
    ),
)  # fmt: skip
