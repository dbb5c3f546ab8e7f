"""What `neuro map` maps: a trained run, an integer network file, or a registered model; each as a graph with recordings for it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuro.datasets.examples import EncodedExamples
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.restored import graph_of
from neuro.errors import FormatError, ParameterError, UnknownName, explain
from neuro.graph import Graph
from neuro.models import registry
from neuro.tracing import trace
from neuro.training.evaluate import divided_by, preprocessing, spread
from neuro.training.evaluate import samples as samples_of
from neuro.training.preprocess import Preprocess
from neuro.training.runs import load


class Looked(NamedTuple):
    """What enters a network: x [T, B, ...], steps of each [B]; whether it is data or only a shape; what a reader must know of it."""

    x: Tensor
    lengths: Tensor
    data: bool
    notes: tuple[str, ...] = ()

    @property
    def bits(self) -> int | None:
        """The fewest that hold a value; None where values are not whole, below 0, or not known."""
        return max(1, int(self.x.max()).bit_length()) if self.data and not _real(self.x) else None

    def first(self, steps: int | None) -> Looked:
        """The first steps of each recording, as the chip is to run: neurons charge up, so later steps have other rates."""
        longest = int(self.lengths.max())
        if not self.data or steps is None or steps < 1 or steps == longest:
            return self
        if steps > longest:
            return self._replace(notes=(*self.notes, f"the recordings have {longest} steps, fewer than the {steps} that are estimated; rates per step are those of theirs."))
        return self._replace(x=self.x[:steps], lengths=self.lengths.clamp(max=steps), notes=(*self.notes, f"of the recordings, which have up to {longest} steps, the first {steps} are looked at."))


@dataclass(frozen=True, eq=False)
class Source:
    """A network that can be mapped.

    title: for the page. folder: where the results go by default. notes: what a reader of the figures must know. input_bits: where known.
    graph: makes the typed graph for an example [T, 1, ...]. model: what says how recordings become input, with its path; or None.
    shape: one step of the input, where no preprocessing tells it.
    """

    title: str
    folder: Path
    graph: Callable[[Tensor], Graph]
    model: tuple[Any, Path] | None = None
    shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()
    input_bits: int | None = None

    def recordings(self, data: Path | None, samples: int) -> Looked:
        """What enters the network. Without data: of a run of arrays its own test part; else one step of nothing, of which only the shape is known.

        Raises:
            ParameterError: data for a network that does not say how recordings become its input, or a model of arrays that does not say which.
            FormatError: the run's own data are gone.
        """
        if data is None and (self.model is None or self.shape is not None or isinstance(preprocessing(*self.model), Preprocess)):
            return Looked(torch.zeros(1, 1, *self._shape()), torch.tensor([1]), False)
        if self.model is None:
            raise ParameterError(explain(f"map: {self.title} does not say how recordings become its input.", f"--data {data}", cure="Name a run's folder, or a network file that lies in one, or leave out --data."))
        from neuro.datasets.loading import collate

        frames, note = (_own(*self.model) if data is None else (samples_of(*self.model, data), ""))
        x, lengths, _ = collate([frames[i] for i in spread(range(len(frames)), samples)])
        if self.shape is not None and tuple(x.shape[2:]) != self.shape:
            raise ParameterError(explain(f"map: {self.title} does not take these recordings.", f"input {list(self.shape)}   recordings {list(x.shape[2:])}", cure="The model beside the file is another one."))
        return Looked(x, lengths, True, tuple(filter(None, (note, _real(x)))))

    def _shape(self) -> tuple[int, ...]:
        if self.shape is not None:
            return self.shape
        assert self.model is not None
        model, path = self.model
        preprocess = preprocessing(model, path)
        assert isinstance(preprocess, Preprocess)
        from neuro.datasets import make_events

        return tuple(preprocess(make_events([0], [0], [0], [0])).shape[2:])


def _own(model: nn.Module, path: Path) -> tuple[Any, str]:
    """The test part of a run of arrays, from where it was trained, and a note that says so: its values are not those of events, and cannot be assumed."""
    options, parts = divided_by(path)
    if parts is None:
        facts = "its input is no events, so neither its values nor its steps can be assumed, and no recipe says where they come from"
        raise ParameterError(explain(f"map: {path} does not say what its input is worth.", facts, cure="Name the folder of the run, which holds recipe.json."))
    given = options.get("data")
    if given is None:
        return EncodedExamples(parts(options).test, preprocessing(model, path).encode), "the input is the test part of the simulated examples that the run was trained with."
    if not Path(given).exists():
        raise FormatError(explain(f"map: the data of {path} are not where they were.", f"trained on {given}", cure="Give --data, what the run's recipe takes as --data."))
    return samples_of(model, path, given), f"the input is the test part of the run's own data, {given}."


def _real(x: Tensor) -> str:
    """A note where the input is no count of events; empty where it is."""
    if bool((x >= 0).all()) and bool((x == x.round()).all()):
        return ""
    return (f"the input is no count of events: values {float(x.min()):.3g} .. {float(x.max()):.3g}. A chip takes whole numbers from 0, so the layers up to the first neurons "
            "stay with the host (neuro export --host-front true), or the network is trained on spikes. Where it is scaled from whole numbers, as a picture is, give --input-bits.")  # fmt: skip


def shape_of(model: nn.Module, title: str) -> tuple[int, ...]:
    """One step of a registered model's input: as its example input, or its Config's channels and image.

    Raises:
        ParameterError: it tells neither.
    """
    if hasattr(model, "example_input"):
        return tuple(model.example_input(1, 1).shape[2:])
    config = getattr(model, "config", None)
    if hasattr(config, "channels") and hasattr(config, "image"):
        return config.channels, config.image, config.image
    raise ParameterError(explain(f"map: {title} does not say what its input looks like.", cure="Give --data, or write the model an example_input(steps, batch)."))


def source_of(run: Path) -> Source:
    """What a path or a name stands for.

    Raises:
        ParameterError: neither a file, a folder nor a model. FormatError: a file that is none of these, or a folder without a run.
    """
    if run.is_dir() or run.suffix == ".safetensors":
        model = load(run)
        return Source(f"the model of {run}", run if run.is_dir() else run.parent, lambda x: trace(model, x), (model, run))
    if run.is_file():
        return _integer(run)
    return _registered(run)


def _integer(path: Path) -> Source:
    if not zipfile.is_zipfile(path):
        cure = "Name a run's folder, its model.safetensors, or a network.npz that neuro export wrote."
        raise FormatError(explain(f"map: {path} is no network.", "it is neither a model.safetensors nor the zip of arrays that a network file is", cure=cure))
    network = IntegerNetwork.load(path)
    graph = graph_of(network)
    beside = path.parent / "model.safetensors"
    model = (load(beside), path.parent) if beside.exists() else None
    note = f"{path}: integers as they are, and their scales; firing rates are those of its graph, in which leaks are not truncated."
    return Source(f"the integer network {path}", path.parent, lambda x: graph, model, network.input.shape, (note,), network.input.message_bits)


def _registered(run: Path) -> Source:
    try:
        entry = registry.entry(str(run))
    except UnknownName as error:
        looked = "looked for a folder, a file, and a registered model of that name"
        raise ParameterError(explain(f"map: there is no {run}.", looked, *(line.strip() for line in str(error).splitlines()[1:]), cure="Name a run's folder, its model.safetensors, a network.npz, or a model that neuro models lists.")) from error
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = entry.make().eval()
    note = f"{run}: not trained, its weights are drawn with seed 0."
    return Source(f"the registered model {run}", Path("."), lambda x: trace(model, x), None, shape_of(model, str(run)), (note,))
