"""Intel Loihi 2, Intel 4, 2021."""

from neuro.deploy.chips.chip import Chip, Fact, Shapes, unknown

BRIEF = "Intel, Loihi 2 technology brief, 2021"
LAVA = "lava-nc 0.10.0, fixed-point models"
ANY = Fact("yes", "connections are listed one by one, so any pattern can be written", "inferred")

LOIHI2 = Chip(
    name="loihi2",
    title="Intel Loihi 2",
    memory="synapses",
    cores=Fact(120, f"boards show 120 of the 128 in {BRIEF}", "recalled"),
    core={
        "neurons": Fact(8192, BRIEF, "secondary"),
        "in_axons": unknown("not public"),
        "synapse_bits": Fact(937_500, f"{BRIEF}: 120 million synapses on 128 cores, read at one bit each, as Loihi 1's 130 million are", "inferred"),
    },
    whole={"neurons": Fact(1_000_000, BRIEF, "secondary"), "synapses": Fact(120_000_000, f"{BRIEF}; read at one bit each", "secondary")},
    splits=Fact(True, "neurons are addressed one by one, as on Loihi 1", "inferred"),
    shares_cores=Fact(True, "as on Loihi 1", "inferred"),
    first=Shapes(), conv=Shapes(), dense=Shapes(),
    weight_bits=Fact(tuple(range(1, 9)), f"{LAVA}: up to 8, even where signs are mixed"),
    input_bits=Fact(24, f"{LAVA}: num_message_bits; Intel's technology brief says 32"),
    spike_bits=Fact(24, f"{LAVA}: graded spikes; Intel's technology brief says 32"),
    state_bits=Fact(24, LAVA),
    delays=Fact(62, "lava-dl netx clamps to 62"),
    steps=Fact("clocked", f"{LAVA}: one step, one barrier"),
    leak=Fact(True, LAVA), current=Fact(True, LAVA),
    resets=Fact(("zero",), f"{LAVA}: LIF resets to zero; subtraction needs microcode of one's own, whose tools are not public"),
    operations={
        "bias": Fact("yes", LAVA), "groups": ANY, "dilation": ANY, "conv1d": ANY, "token_mean": ANY,
        "residual": Fact("yes", f"{LAVA}: two connections into one neuron, the early one delayed"),
        "attention": Fact("no", f"{LAVA}: no public neuron multiplies two spike trains; ours runs in the CPU simulation only"),
        "recurrent": Fact("yes", f"{LAVA}: a loop has a period of one step"),
        "max_pool": Fact("a layer of neurons that fires where any input fires", "exact on binary spikes; one more step of delay", "inferred"),
        "avg_pool": Fact("no", f"{LAVA}: lava.proc has no pooling"),
        "readout": Fact("yes", "a neuron that never fires, read from its membrane, as in lava-dl's PilotNet"),
        "adaptive": Fact("no", f"{LAVA}: possible in microcode, whose tools are not public", "secondary"),
        "relay": Fact("no", "a product is delivered to a neuron, which alone sends on", "inferred"), "norm": Fact("no", "only the neuron's update and the weights are computed", "inferred"),
    },
    learning=Fact("any", f"{BRIEF}: three-factor rules in microcode", "secondary"),
    lacks=(
        "Energy and time per operation are not published: no estimate is given.",
        "Compression of convolutions exists on the chip, its format is not public: every connection is counted, an upper bound.",
        "Input and output axons per core are not public: fan-in is not limited here.",
        "Of the state memory (0 to 4096 bytes per neuron, about 192 KB per core, both recalled) nothing is counted.",
    ),
)  # fmt: skip
