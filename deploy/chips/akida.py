"""BrainChip Akida AKD1000 (Akida 1.0): a quantised sparse CNN in one pass per input, without time steps."""

from neuro.deploy.chips.chip import Chip, Fact, Shapes

DOC = "akida_examples, doc/user_guide/1.0_hw_constraints.rst"
ZOO = "akida_examples, zoo pages"
PAPER = "Putra, Wickramasinghe, Shafique, arXiv 2504.00957"
POOLS = Fact(((2, 1), (2, 2)), DOC)
AFTER = Fact("conv", f"{DOC}: after a max pool another convolution must follow")
NO_POOL = Fact((), f"{DOC}: only the global mean, which is not built here")

AKIDA = Chip(
    name="akida",
    title="BrainChip Akida AKD1000",
    memory="kernels",
    cores=Fact(80, f"{DOC}: 20 nodes of 4 neural processors"),
    core={"memory_bits": Fact(819_200, "open-neuromorphic.org, Akida: 8 MB of SRAM; over 80 neural processors about 100 KB each", "secondary")},
    whole={},
    splits=Fact(True, f"{DOC}: a layer takes several neural processors"),
    shares_cores=Fact(False, "a neural processor runs one layer of a sequence", "inferred"),
    first=Shapes(
        kernels=Fact((3, 5, 7), DOC), strides=Fact({0: (1, 2, 3)}, DOC), padding=Fact("same or valid", DOC),
        filters=Fact({(1, 3): 512, (1, 5): 192, (1, 7): 96, (3, 3): 192, (3, 5): 64, (3, 7): 32}, DOC),
        in_size=Fact((5, 256), f"{DOC}: width 5 to 256, height from 5"), max_pools=Fact(((1, 1), (2, 2)), f"{DOC}: stride = size"), sum_pools=NO_POOL,
        after_pool=AFTER,
    ),
    conv=Shapes(kernels=Fact((1, 3, 5, 7), DOC), strides=Fact({3: (1, 2), 0: (1,)}, DOC), padding=Fact("same", DOC), max_pools=POOLS, sum_pools=NO_POOL, after_pool=AFTER),
    dense=Shapes(inputs=Fact(57_334, f"{DOC}: width x height x channels"), max_pools=Fact((), DOC), sum_pools=NO_POOL),
    weight_bits=Fact((2, 4), f"{DOC}: 1, 2 or 4; the conversion quantises to 2 at least"),
    first_weight_bits=Fact((2, 4, 8), DOC),
    input_bits=Fact(8, f"{DOC}: of an image of 1 or 3 channels; 4 where a plain convolution reads the input"),
    spike_bits=Fact(4, f"{DOC}: activations of 1, 2 or 4 bits"),
    state_bits=Fact(4, f"{DOC}: an activation; no membrane is kept", "inferred"),
    delays=Fact(0, f"{DOC}: no time steps"),
    steps=Fact("one", f"{DOC}: one pass per input"),
    leak=Fact(False, f"{DOC}: no membrane"), current=Fact(False, f"{DOC}: no membrane"),
    resets=Fact(("zero", "subtract"), "without meaning in one pass", "inferred"),
    operations={
        "bias": Fact("yes", "taken into the thresholds of the activation", "inferred"),
        "residual": Fact("no", f"{DOC}: sequential models only; Add arrives with Akida 2.0"),
        "attention": Fact("no", f"{DOC}: not among the layers"), "recurrent": Fact("no", f"{DOC}: sequential models only"),
        "max_pool": Fact("yes", DOC), "avg_pool": Fact("no", f"{DOC}: only the global mean"),
        "groups": Fact("no", f"{DOC}: SeparableConvolutional only, which joins a depthwise and a pointwise layer without a neuron between"),
        "dilation": Fact("no", DOC), "conv1d": Fact("no", DOC), "token_mean": Fact("no", f"{DOC}: not among the layers"),
        "readout": Fact("yes", f"{DOC}: a FullyConnected without activation ends a model"),
        "adaptive": Fact("no", f"{DOC}: no membrane"),
        "relay": Fact("no", DOC, "inferred"), "norm": Fact("no", "only the neuron's update and the weights are computed", "inferred"),
    },
    learning=Fact("last binary dense", "akida_examples, user guide, Akida edge learning: the last FullyConnected, 1-bit weights and 1-bit inputs"),
    energy={
        "power_mw": Fact((905.0, 1021.0), f"{ZOO}: board, from its floor (905 to 914) to AkidaNet-0.5 224 (981; 1021 in an older edition)"),
        "latency_ms": Fact((1.0, 200.0), f"{PAPER}: below 1 for keywords, 50 for images, 200 for detection in video", "secondary"),
    },
    lacks=(
        "How a layer is split over neural processors is not public. Ours counts weights and activations only, a lower bound: the vendor's zoo needs "
        "68 processors for the 4.4 million 4-bit weights of AkidaNet 160, where the bytes alone fill 22.",
        "Power is of the board with its floor of about 0.9 W. The paper's figures below 250 mW hold only without that floor.",
        "Latency is what was reported for other networks, no estimate for this one.",
    ),
)  # fmt: skip
