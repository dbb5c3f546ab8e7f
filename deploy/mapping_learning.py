"""Which layers may learn on a chip. The learning itself is not here."""

from __future__ import annotations

from neuro.deploy.chips import Chip
from neuro.deploy.mapping_layers import Network
from neuro.deploy.mapping_rewrites import binary
from neuro.graph import Graph


def learners(graph: Graph, network: Network, chip: Chip) -> dict[str, tuple[bool, str]]:
    """Layer -> (whether it may learn on the chip, why)."""
    found, last = {}, network.layers[-1]
    for layer in network.layers:
        weighted = any(p.weight is not None for p in layer.products)
        if chip.learning.value == "none":
            found[layer.name] = (False, f"{chip.title}: {chip.learning.source}")
        elif not weighted:
            found[layer.name] = (False, "it has no weights")
        elif chip.learning.value == "any":
            found[layer.name] = (True, chip.learning.source)
        else:
            dense = layer is last and len(layer.products) == 1 and layer.products[0].kind == "dense"
            ones = dense and layer.sources != (network.input,) and all(s != network.input and binary(graph, s) for s in layer.sources)
            found[layer.name] = (dense and ones, chip.learning.source if dense else "only the last, dense layer may; " + chip.learning.source)
            if dense and not ones:
                found[layer.name] = (False, "its inputs are not binary spikes; " + chip.learning.source)
    return found
