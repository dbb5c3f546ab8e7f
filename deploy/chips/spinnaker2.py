"""SpiNNaker 2: ARM cores with SRAM and accelerators; neurons and connections are software."""

from neuro.deploy.chips.chip import Chip, Fact, Shapes, unknown

LM = "Nazeer et al., Language Modeling on a SpiNNaker 2 Neuromorphic Chip, AICAS 2024, arXiv 2312.09084"
ESTIMATORS = "software estimators of energy use it; where it was measured is not known here"
SOFTWARE = Fact("yes", "a program computes it", "inferred")

SPINNAKER2 = Chip(
    name="spinnaker2",
    title="SpiNNaker 2",
    memory="kernels",
    cores=Fact(152, f"vendor's documents as read in {LM}; 144 in other descriptions", "secondary"),
    core={"memory_bits": Fact(96 * 1024 * 8, f"{LM}: 96 kB of a PE's 128 kB SRAM for data", "secondary")},
    whole={},
    splits=Fact(True, f"{LM}: layers are split over PEs", "secondary"),
    shares_cores=Fact(False, "one program per PE is assumed", "inferred"),
    first=Shapes(), conv=Shapes(), dense=Shapes(),
    weight_bits=Fact((8, 16, 32), "8-bit MAC array, 16 by joining; float32 on the ARM core", "recalled"),
    input_bits=Fact(32, "software: a word of the ARM core is assumed", "inferred"), spike_bits=Fact(32, "packets carry a payload", "recalled"), state_bits=Fact(32, "a word per state is assumed", "inferred"),
    delays=unknown("software; the memory for spikes on their way is not counted"),
    steps=Fact("clocked", "software steps", "inferred"), leak=Fact(True, "a program computes it", "inferred"), current=Fact(True, "a program computes it", "inferred"),
    resets=Fact(("zero", "subtract"), "a program computes it; the two that are built here", "inferred"),
    operations={name: SOFTWARE for name in ("bias", "residual", "attention", "recurrent", "max_pool", "avg_pool", "groups", "dilation", "conv1d",
                                            "token_mean", "readout", "adaptive", "relay", "norm")},
    learning=Fact("any", "software", "inferred"),
    energy={
        "synapse_pj": Fact(450.0, ESTIMATORS, "recalled"),
        "active_pj": Fact(2190.0, ESTIMATORS, "recalled"), "silent_pj": Fact(2190.0, ESTIMATORS, "recalled"), "spike_pj": Fact(0.0, "within the above", "inferred"),
        "power_mw": Fact((390.0, 390.0), f"{LM}: chip during its language model", "secondary"),
    },
    lacks=(
        "Memory for spike buffers, routing tables and delays depends on the program and is not counted: a lower bound of PEs.",
        "Products of spikes with spikes (attention) are placed with their neurons' state only: their operations and operands are not counted.",
        "Each weight is stored once; a program that unrolls convolutions needs more.",
        "DRAM beside the chip is not used here. Time per operation is unknown: no latency is estimated.",
    ),
)  # fmt: skip
