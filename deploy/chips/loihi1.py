"""Intel Loihi (the first), 14 nm, 2018."""

from neuro.deploy.chips.chip import Chip, Fact, Shapes, unknown

DAVIES = "Davies et al. 2018, Loihi"
NENGO = "nengo-loihi, nengo_loihi/block.py"
LAVA = "lava-nc 0.10.0, fixed-point models"
ANY = Fact("yes", "connections are listed one by one, so any pattern can be written", "inferred")

LOIHI1 = Chip(
    name="loihi1",
    title="Intel Loihi 1",
    memory="synapses",
    cores=Fact(128, DAVIES),
    core={
        "neurons": Fact(1024, f"{DAVIES}; {NENGO}, MAX_COMPARTMENTS"),
        "in_axons": Fact(4096, f"{NENGO}, MAX_IN_AXONS"),
        "synapse_bits": Fact(1_048_576, f"{NENGO}, MAX_SYNAPSE_BITS (128 KB)"),
    },
    whole={"neurons": Fact(131_072, DAVIES), "synapses": Fact(130_000_000, f"{DAVIES}; at one bit each")},
    splits=Fact(True, f"{NENGO}, split blocks"),
    shares_cores=Fact(True, f"{DAVIES}: neurons of a core are configured in groups; nengo-loihi itself puts one block on a core", "inferred"),
    first=Shapes(), conv=Shapes(), dense=Shapes(),
    weight_bits=Fact(tuple(range(1, 10)), f"{DAVIES}: 1 to 9 with the sign", "recalled"),
    input_bits=Fact(1, f"{DAVIES}: spikes have no payload", "secondary"),
    spike_bits=Fact(1, f"{DAVIES}: spikes have no payload", "secondary"),
    state_bits=Fact(24, LAVA),
    delays=Fact(62, DAVIES, "secondary"),
    steps=Fact("clocked", f"{DAVIES}: algorithmic steps with a barrier"),
    leak=Fact(True, LAVA), current=Fact(True, LAVA),
    resets=Fact(("zero",), f"{LAVA}: LIF resets to zero only"),
    operations={
        "bias": Fact("yes", LAVA), "groups": ANY, "dilation": ANY, "conv1d": ANY, "token_mean": ANY,
        "residual": Fact("yes", f"{LAVA}: two connections into one neuron, the early one delayed"),
        "attention": Fact("no", f"{LAVA}: no product of two spike trains in the neuron model"),
        "recurrent": Fact("yes", f"{LAVA}: a loop has a period of one step"),
        "max_pool": Fact("a layer of neurons that fires where any input fires", "exact on binary spikes; one more step of delay", "inferred"),
        "avg_pool": Fact("no", "no pooling; means of spikes are not spikes", "inferred"),
        "readout": Fact("yes", "a neuron that never fires, read from its membrane, as in lava-dl's PilotNet"),
        "adaptive": Fact("no", f"{LAVA}: no adaptive threshold among the public fixed-point models", "secondary"),
        "relay": Fact("no", "a product is delivered to a neuron, which alone sends on", "inferred"), "norm": Fact("no", "only the neuron's update and the weights are computed", "inferred"),
    },
    fan_out=unknown("MAX_OUT_AXONS of nengo-loihi is 4096 per core; what one connection costs of it is not public"),
    learning=Fact("any", f"{DAVIES}: microcoded pairwise and trace-based rules on any plastic connection", "secondary"),
    energy={
        "synapse_pj": Fact(23.6, f"{DAVIES}, 0.75 V, pre-silicon estimate, minimum", "secondary"),
        "active_pj": Fact(81.0, f"{DAVIES}, as above", "secondary"), "silent_pj": Fact(52.0, f"{DAVIES}, as above", "secondary"),
        "spike_pj": Fact(1.7, f"{DAVIES}, within a tile", "secondary"), "synapse_ns": Fact(3.5, f"{DAVIES}, as above", "secondary"),
        "active_ns": Fact(8.4, f"{DAVIES}, as above", "secondary"), "silent_ns": Fact(5.3, f"{DAVIES}, as above", "secondary"),
    },
    lacks=(
        "The real compiler and the bits it adds to a connection's weight (index, delay, tag) are not public: more cores may be needed.",
        "Memory that plastic connections take for traces and rules is not public.",
        "Time of the barrier between steps and static power are not in the table of energies per operation.",
    ),
)  # fmt: skip
