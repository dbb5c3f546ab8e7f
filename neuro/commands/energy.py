"""`neuro energy`: operations and energy of a run's model on recordings."""

from __future__ import annotations

from pathlib import Path

from neuro.datasets.loading import collate
from neuro.deploy.energy import compare_on, from_activity
from neuro.deploy.operations import operations_energy, sop_convention
from neuro.errors import GraphError, explain
from neuro.measuring import activity
from neuro.tracing import trace
from neuro.training.evaluate import samples as samples_of
from neuro.training.evaluate import spread
from neuro.training.runs import load


def main(run: Path, data: Path, samples: int = 32) -> None:
    """Count the operations of a run's model by value type and estimate energy per recording, beside ANNs of the same layers: in every step, and once with matched bits.

    A network that cannot be traced is counted, and not compared.

    Args:
        run: folder of a run, or a model.safetensors.
        data: what the run's recipe takes as --data, or a folder that holds .../LABEL/SAMPLE, event files of any format, loose or in zips.
        samples: recordings to count on, evenly spread over the folder.
    """
    model = load(run)
    frames = samples_of(model, run, data)
    x, lengths, _ = collate([frames[i] for i in spread(range(len(frames)), samples)])
    counted = activity(model, x, lengths)
    print(counted)
    print()
    for said, found in (("Operations alone", operations_energy(counted)), ("Convention of papers on spiking transformers", sop_convention(counted))):
        print(f"{said}: {found.total:.4g} µJ per recording in {found.profile.name}, without memory. {' '.join(found.how)}")
    print()
    try:
        graph = trace(model, x[: int(lengths[0]), :1])
    except GraphError as error:
        print(explain("Not compared with ANNs of the same layers: that needs the network's graph, the figures above do not.", *str(error).split("\n  ")))
        return
    print(compare_on(from_activity(counted, graph), graph, x, lengths))
