"""NIR, the exchange format of spiking networks: `export` writes it, `load` makes a native network of it.

What our files state beyond NIR stands in its metadata: of the graph `dt` (seconds), `writer`, `readout`; of a node `fires`
(`>=` or `>`, NIR's rule), `reset`, `neuro_max_pool` (it stands behind the sum of a max pool), `neuro_groups` and `neuro_kernel` (of a
kernel written out with zeros). A reader that ignores metadata reads plain NIR.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from neuro.deploy.nir_equal import check
from neuro.deploy.nir_export import write_graph
from neuro.deploy.nir_file import read
from neuro.deploy.nir_import import NIRNetwork, build
from neuro.files import replacing
from neuro.graph import BatchNorm, Graph, fold_norms
from neuro.tracing import trace

__all__ = ["NIRNetwork", "export", "load"]


def load(source: str | Path | Any, dt: float | None = None) -> NIRNetwork:
    """The network of a NIR file or of a `nir.NIRGraph`, as a native module in eval mode.

    Args:
        source: path, or graph.
        dt: seconds of one step; None: as the file states.

    Raises:
        FormatError: what cannot be read or does not make sense, with the node's name.

    >>> import nir, numpy as np, torch
    >>> one = np.ones(2)
    >>> graph = nir.NIRGraph.from_list(nir.Linear(np.eye(2)), nir.LIF(tau=2e-3 * one, r=one, v_leak=0 * one, v_threshold=one))
    >>> load(graph, dt=1e-3)(torch.full((3, 1, 2), 1.5))[:, 0, 0].tolist()
    [0.0, 1.0, 0.0]
    """
    return build(read(source), dt).eval()


def export(
    model: nn.Module | Graph, example: Tensor, *, dt: float, path: str | Path | None = None, soft_reset: str = "written out", expand_kernels: bool = True,
    max_pool: str = "LIF",
) -> Any:
    """The `nir.NIRGraph` of a model, checked by running it on the example, and written to `path` if one is given.

    Args:
        model: anything that `neuro.trace` understands, or its graph. Norms are folded.
        example: input [T, B, ...]; T of some dozens and B of some samples make the check worth something.
        dt: seconds of one step. A decay of d per step becomes tau = dt / (1 - d).
        soft_reset: "written out": integrator, Threshold and Scale, which no reader misreads; "stated": one LIF or IF node
            whose metadata say `reset: subtract`, which others run with a hard reset.
        expand_kernels: write grouped and oblong kernels as square ones of one group, with zeros. The package nir 1.0.8
            refuses to read others; ours takes the zeros out again.

        max_pool: what stands behind the sum of a window where the model takes the largest spike: "LIF", which other readers run too,
            or "Threshold", NIR's own step function. Read here, either is the MaxPool2d again; of other values than spikes it is refused.

    Raises:
        GraphError: a node that NIR cannot hold, by its module path, or an export that does not spike as the model does.
    """
    graph = model if isinstance(model, Graph) else trace(model, example)
    folded = fold_norms(graph) if any(isinstance(n, BatchNorm) for n in graph) else graph
    exported = write_graph(folded, dt, soft_reset, expand_kernels, max_pool)
    check(exported, graph, folded, example)
    if path is not None:
        import nir

        buffer = io.BytesIO()
        nir.write(buffer, exported)
        with replacing(path) as file:
            file.write(buffer.getvalue())
    return exported
