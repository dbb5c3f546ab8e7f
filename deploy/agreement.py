"""What changed between a float network and its integer form: spikes, layer by layer, and predictions."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuro.deploy.network import IntegerNetwork
from neuro.deploy.twin import run_twin
from neuro.errors import ParameterError, ShapeError, explain
from neuro.graph import Graph, Neuron
from neuro.surrogate import Levels
from neuro.tracing import trace

LOWEST = 2**23 - 1  # of a membrane, below zero
CHUNK = 32  # recordings compared at once: bounds the memory for recorded spikes


@dataclass(frozen=True)
class LayerReport:
    """One layer and the neuron that follows it ("" for the head).

    scale: integers per unit of float weight.  max_error, rms_error: of W_int / scale against W, in units of W; rms_weight: of W.
    compared, changed: neuron steps looked at, and those where float and integer spikes differ, upstream changes included.
    spikes: of the float network.  float_equal, integer_equal: neuron steps with the membrane exactly at the threshold.
    """

    layer: str
    neuron: str
    scale: float
    vth: int
    max_error: float = 0.0
    rms_error: float = 0.0
    rms_weight: float = 0.0
    compared: int = 0
    changed: int = 0
    spikes: int = 0
    float_equal: int = 0
    integer_equal: int = 0

    @property
    def fraction(self) -> float:
        """Changed per neuron step."""
        return self.changed / self.compared if self.compared else 0.0


@dataclass(frozen=True)
class QuantizationReport:
    """What quantising changed, on the recordings it was given.

    samples: recordings.  answers: as many, or their steps where the network answers at every one.  agree: answers for which both networks
    choose the same class.  score_error: largest difference of the scores, in the float model's units.
    """

    layers: tuple[LayerReport, ...]
    notes: tuple[str, ...]
    samples: int
    answers: int
    agree: int
    score_error: float

    @property
    def changed(self) -> float:
        """Share of neuron steps at which one network fires and the other does not, over all layers."""
        return sum(r.changed for r in self.layers) / max(1, sum(r.compared for r in self.layers))

    @property
    def _rate(self) -> float:
        return sum(r.spikes for r in self.layers) / max(1, sum(r.compared for r in self.layers))

    HEAD = ("layer", "scale", "vth", "weight error max", "rms", "rms/rms(W)", "compared", "changed", "%", "float spikes", "at threshold", "integer at thr.")

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (
                r.layer, f"{r.scale:.4g}", str(r.vth or "-"), f"{r.max_error:.2e}", f"{r.rms_error:.2e}",
                f"{r.rms_error / r.rms_weight:.2%}" if r.rms_weight else "-", str(r.compared), str(r.changed), f"{r.fraction:.4%}",
                str(r.spikes), str(r.float_equal), str(r.integer_equal),
            )
            for r in self.layers
        ]  # fmt: skip

    def summary(self) -> str:
        return (
            f"{self.samples} recordings{'' if self.answers == self.samples else f', {self.answers} answers'}: {self.agree} with the same class ({self.agree / max(1, self.answers):.2%}), "
            f"spike or silence differs at {self.changed:.2%} of neuron steps (the float network fires at {self._rate:.2%}), "
            f"scores differ by at most {self.score_error:.3g}"
        )

    def __repr__(self) -> str:
        return "\n".join([*table(self.HEAD, self.rows()), self.summary(), *self.notes])

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self.rows(), [self.summary(), *self.notes])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a text table: the first column to the left, the others to the right."""
    widths = [max(len(str(r[i])) for r in [head, *rows]) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(str(c).ljust(w) if i == 0 else str(c).rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))

    return [line(head), "-" * len(line(head)), *map(line, rows)]


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], notes: Iterable[str] = ()) -> str:
    """The same as an HTML table, with its notes below."""
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return "<table><tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in head) + f"</tr>{body}</table>" + "".join(f"<p>{html.escape(n)}</p>" for n in notes)


class Valued(Protocol):
    """What can be compared: a graph, or a network that is trained with its integers, whose neurons are the chip's."""

    def values(self, x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]: ...

    def run(self, x: Tensor, lengths: Tensor | None = None) -> Tensor: ...


def compare(
    graph: Valued, network: IntegerNetwork, x: Tensor, lengths: Tensor | None, layers: Sequence[LayerReport], notes: Sequence[str] = ()
) -> QuantizationReport:
    """Run both on x [T, B, ...] and fill in the spikes of `layers` and the predictions. Padded steps are left out."""
    sums = {r.neuron: np.zeros(5, np.int64) for r in layers if r.neuron}
    answered = graph.output.name if isinstance(graph, Graph) else network.readout.name  # the readout of every step is no node of a graph
    answers, agree, worst = 0, 0, 0.0
    clipped = dict.fromkeys(sums, 0)
    for first in range(0, x.shape[1], CHUNK):
        part = x[:, first : first + CHUNK]
        steps = None if lengths is None else lengths[first : first + CHUNK]
        with torch.no_grad():
            values = graph.values(part, steps)
        twin = run_twin(network, as_counts(part), None if steps is None else steps.cpu().numpy(), record=True)
        logits, given = values[answered].cpu().double().numpy(), twin.predictions >= 0
        answers += int(given.sum())
        agree += int((logits.argmax(-1) == twin.predictions)[given].sum())
        worst = max(worst, float(np.abs(logits - twin.logits)[given].max()))
        valid = np.arange(len(part))[:, None] < twin.steps[None, :]  # [T, B]
        for name, total in sums.items():
            ours = values[name].cpu().numpy()
            mask = valid.reshape(*valid.shape, *[1] * (ours.ndim - 2))
            clipped[name] += int((twin.membranes[name] <= -LOWEST).sum())
            total += (
                int(valid.sum()) * ours[0, 0].size,
                int(((ours != twin.spikes[name]) & mask).sum()),
                int((ours * mask).sum()),
                _at_threshold(graph[name], values, mask) if isinstance(graph, Graph) else int(twin.counts[name].equal.sum()),
                int(twin.counts[name].equal.sum()),
            )
    fields = ("compared", "changed", "spikes", "float_equal", "integer_equal")
    done = [replace(r, **dict(zip(fields, map(int, sums[r.neuron]), strict=True))) if r.neuron else r for r in layers]
    notes = [*notes, *(f"{name}: its membrane stood at the register's lowest value in {n} neuron steps; the float one goes lower." for name, n in clipped.items() if n)]
    silent = [r.neuron for r in done if r.neuron and not r.spikes]
    if silent:
        notes = [*notes, f"Silent on these recordings, so nothing was compared: {', '.join(silent)}."]
    return QuantizationReport(tuple(done), tuple(notes), x.shape[1], answers, agree, worst)


def _at_threshold(node: Any, values: dict[str, Tensor], mask: np.ndarray) -> int:
    if not isinstance(node, Neuron) or node.state._fields != ("v",):
        return 0
    with torch.no_grad():
        v = node.membrane(values[node.inputs[0]])
    threshold, spike = torch.as_tensor(node.params.threshold), node.choices["spike"]
    heights = [threshold + k * spike.unit for k in range(spike.levels)] if isinstance(spike, Levels) else [threshold]
    return int((sum(v == height for height in heights).cpu().numpy() * mask).sum())


def as_counts(x: Tensor) -> np.ndarray:
    """Event counts as int32 [T, B, ...]."""
    return x.detach().cpu().numpy().astype(np.int32)


@dataclass(frozen=True, eq=False)
class PredictionAgreement:
    """Float and integer predictions on a test set, int64 [samples]; labels, or None if there were none.

    A sample is a recording or, of a network that answers at every step, each of its steps; step: which one it is [samples], None of recordings.
    float_loss, integer_loss: mean cross-entropy of the labels, in nats, infinite where one is none of the classes; None without labels.
    """

    float_predictions: np.ndarray
    integer_predictions: np.ndarray
    labels: np.ndarray | None
    step: np.ndarray | None = None
    float_loss: float | None = None
    integer_loss: float | None = None

    @property
    def samples(self) -> int:
        return len(self.float_predictions)

    @property
    def same(self) -> float:
        """Share of recordings for which both choose the same class."""
        return float((self.float_predictions == self.integer_predictions).mean())

    @property
    def float_accuracy(self) -> float | None:
        return None if self.labels is None else float((self.float_predictions == self.labels).mean())

    @property
    def integer_accuracy(self) -> float | None:
        return None if self.labels is None else float((self.integer_predictions == self.labels).mean())

    def by_step(self) -> list[dict[str, Any]]:
        """Of each step: samples, the share with the same class and, where there are labels, both accuracies.

        Raises:
            ParameterError: the network answers once for a recording.
        """
        if self.step is None:
            raise ParameterError(explain("by_step: the network answers once for each recording.", cure="Read same, float_accuracy and integer_accuracy."))
        rows = []
        for t in np.unique(self.step):
            part = replace(self, **{f: None if (a := getattr(self, f)) is None else a[self.step == t] for f in ("float_predictions", "integer_predictions", "labels", "step")})
            rows.append({"step": int(t), "samples": part.samples, "same": part.same, "float_accuracy": part.float_accuracy, "integer_accuracy": part.integer_accuracy})
        return rows

    def __repr__(self) -> str:
        text = f"{self.samples} {'recordings' if self.step is None else 'answers'}, the same class for {self.same:.2%}"
        if self.labels is None:
            return text
        return f"{text}; accuracy float {self.float_accuracy:.2%}, integer {self.integer_accuracy:.2%}; cross-entropy float {self.float_loss:.4f}, integer {self.integer_loss:.4f} nats"


def evaluate_quantized(model: Graph | nn.Module, network: IntegerNetwork, batches: Iterable[Any], threads: int | None = None) -> PredictionAgreement:
    """Predictions of the float model and of the integer twin over batches `(x, lengths, y)`, as `neuro.datasets` gives them.

    `(x, y)` and a bare x are taken too. Of a network that answers at every step labels are [B, T], and steps behind a recording's end
    are left out. Counts beyond the network's message_bits, or labels of another shape, raise ShapeError.
    """
    graph: Any = model if hasattr(model, "values") else None
    found: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []
    for batch in batches:
        x, lengths, y = _parts(batch)
        if graph is None:
            graph = trace(model, x[:, :1])  # type: ignore[arg-type]
        twin = run_twin(network, as_counts(x), None if lengths is None else lengths.cpu().numpy(), threads=threads)
        given = torch.from_numpy(twin.predictions >= 0)  # [B] or [T, B]
        labels = None if y is None else _labels(torch.as_tensor(y).cpu(), given)[given]
        found.append((graph.run(x, lengths).detach().cpu().double()[given], torch.from_numpy(twin.logits)[given], given.nonzero()[:, 0], labels))
    if not found:
        raise ParameterError(explain("evaluate_quantized: there are no batches."))
    ours, theirs, step = (torch.cat([batch[i] for batch in found]) for i in range(3))  # type: ignore[misc]
    known = [labels for *_, labels in found if labels is not None]
    if 0 < len(known) < len(found):
        raise ParameterError(explain(f"evaluate_quantized: {len(known)} of {len(found)} batches have labels.", cure="Give labels with all of them, or with none."))
    truth = torch.cat(known) if known else None
    losses = (None, None) if truth is None else (_loss(ours, truth), _loss(theirs, truth))
    each = given.dim() == 2
    return PredictionAgreement(ours.argmax(1).numpy(), theirs.argmax(1).numpy(), None if truth is None else truth.numpy(), step.numpy() if each else None, *losses)


def _loss(scores: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy in nats."""
    known = (labels >= 0) & (labels < scores.shape[1])
    return F.cross_entropy(scores, labels.long()).item() if bool(known.all()) else float("inf")


def _labels(y: Tensor, given: Tensor) -> Tensor:
    """Labels in the layout of the answers, [B] or [T, B]."""
    turned = y.T if y.dim() == 2 else y
    if turned.shape != given.shape:
        cure = "Give a label for each recording; of a network that answers at every step one for each step, [B, T]."
        raise ShapeError(explain("evaluate_quantized: the labels do not fit the answers.", f"labels {list(y.shape)}   answers {list(given.shape)}", cure=cure))
    return turned


def _parts(batch: Any) -> tuple[Tensor, Tensor | None, Any]:
    if isinstance(batch, Tensor):
        return batch, None, None
    if len(batch) == 2:
        return batch[0], None, batch[1]
    x, lengths, y = batch
    return x, lengths, y
