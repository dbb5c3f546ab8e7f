"""A run is a folder: what was asked for, with which versions and seed, what came of it, and the model.

    recipe.json        recipe, options as resolved, seed        checkpoints/last.ckpt   to go on from after a stop
    versions.json      python, torch, numpy, ..., machine       model.safetensors, model.json
    data.json          number and digests of the recordings products.json           by which costs products with spikes chose
    metrics.csv        a row per epoch                          classes.csv             figures per class
    layers.csv         a row per layer and look                 report.html, *.png      pictures
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from neuro.errors import FormatError, ParameterError, UnknownName, explain
from neuro.files import read_json, write_json
from neuro.training.described import describe
from neuro.training.tables import Table
from neuro.training.weights import load_model

FORMAT, VERSION, SPLIT = "neuro-run", 1, "neuro-split"
PACKAGES = ("neuro-snn", "torch", "numpy", "lightning", "safetensors", "numba", "snntorch", "tonic")
MAY_CHANGE = ("data", "out", "devices", "workers", "jobs", "accelerator", "resume", "cache")  # options that leave the result alone
NAMED = "Name the folder given as --out in training, or its model.safetensors."
METRICS = ("epoch", "step", "seconds", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
LAYERS = ("step", "layer", "rate", "silent", "always", "gradient")


@dataclass(frozen=True)
class Run:
    """A run's folder with its recipe, options and seed. Made by `Run.create`, found again by `Run.open`."""

    folder: Path
    recipe: str
    options: Mapping[str, Any]
    seed: int

    @classmethod
    def create(
        cls, folder: str | Path, *, recipe: str, options: Mapping[str, Any] | None = None, seed: int = 0, resume: bool = False
    ) -> Run:
        """Start a run in a folder of its own; with `resume`, go on with the one that is there.

        A run that never took a step, because its data or its options were refused, is replaced.

        Args:
            recipe: name of the recipe, or path of its file.
            options: its arguments as resolved; numbers, names, paths and lists.
            seed: of everything that is drawn.

        Raises:
            ParameterError: a run is already there, or the one to go on with was made with other options.
            WriteError: the folder cannot be written.
        """
        folder, options = Path(folder), describe(dict(options or {}))
        if (folder / "recipe.json").exists():
            run = cls.open(folder)
            if resume:
                run._refuse_changes(recipe, options, seed)
                return run
            if _rank() == 0 and run.begun:
                cure = f"Go on with it: neuro train --resume {folder}   or choose another folder."
                raise ParameterError(explain(f"a run is already in {folder}.", f"recipe {run.recipe}", cure=cure))
        run = cls(folder, recipe, options, int(seed))
        if _rank() == 0:
            write_json(folder / "versions.json", versions())
            about = {"format": FORMAT, "version": VERSION, "recipe": recipe, "options": options, "seed": run.seed}
            write_json(folder / "recipe.json", about)
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run in a folder, or FormatError."""
        folder = Path(folder)
        if not (folder / "recipe.json").exists():
            what = "it is not a folder" if not folder.is_dir() else "it holds no recipe.json"
            raise FormatError(explain(f"there is no run in {folder}.", what, cure="Name the folder given as --out in training."))
        about = read_json(folder / "recipe.json", FORMAT, VERSION)
        try:
            return cls(folder, about["recipe"], about["options"], int(about["seed"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(explain(f"{folder / 'recipe.json'} does not describe a run.", repr(error))) from error

    @property
    def metrics(self) -> Table:
        """A row per epoch: epoch and step from 1, seconds of this epoch, loss and accuracy (a fraction) of both parts."""
        return Table(self.folder / "metrics.csv", METRICS)

    @property
    def layers(self) -> Table:
        """A row per layer and look: see `neuro.training.watch.Layer`."""
        return Table(self.folder / "layers.csv", LAYERS)

    @property
    def checkpoint(self) -> Path:
        """What a stopped run goes on from."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def data(self) -> Path:
        """Which recordings it is trained on: see `neuro.training.fingerprint`."""
        return self.folder / "data.json"

    @property
    def best(self) -> Path:
        """Folder of the best model so far, where one is kept."""
        return self.folder / "checkpoints" / "best"

    @property
    def weights(self) -> Path:
        """The trained model."""
        return self.folder / "model.safetensors"

    @property
    def finished(self) -> bool:
        """Whether training has ended and the model was saved."""
        return self.weights.exists() and self.weights.with_suffix(".json").exists()

    @property
    def begun(self) -> bool:
        """Whether anything came of it yet, besides the description of what was asked for and of the data."""
        return any(p.name not in ("recipe.json", "versions.json", "data.json", "split.json", "products.json") and p.suffix != ".part" for p in self.folder.iterdir())

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process is the one that writes."""
        return _rank() == 0

    def keep_split(self, facts: Mapping[str, Any]) -> None:
        """Write down which split of its data set the run is trained on, in `split.json`: `Split.facts()` or the like.

        Raises:
            ParameterError: the run goes on with another split than it began with.
        """
        path = self.folder / "split.json"
        now = json.loads(json.dumps({"format": SPLIT, "version": VERSION, **describe(dict(facts))}))
        if path.exists() and self.begun:
            then = read_json(path, SPLIT, VERSION)
            if then != now:
                changed = [f"{k}: {then.get(k)!r} then, {now.get(k)!r} now" for k in sorted({*then, *now}) if then.get(k) != now.get(k)]
                raise ParameterError(explain(f"the run in {self.folder} was begun with another split.", *changed))
        elif self.is_rank_zero:
            write_json(path, now)

    def _refuse_changes(self, recipe: str, options: Mapping[str, Any], seed: int) -> None:
        now = {**options, "recipe": recipe, "seed": int(seed)}
        then = {**self.options, "recipe": self.recipe, "seed": self.seed}
        changed = [k for k in sorted({*now, *then}) if k not in MAY_CHANGE and now.get(k) != then.get(k)]
        if changed:
            facts = [f"{k}: {then.get(k)!r} then, {now.get(k)!r} now" for k in changed]
            cure = "Resume with the options it was started with, or start a new run."
            raise ParameterError(explain(f"the run in {self.folder} was made otherwise.", *facts, cure=cure))


def load(run: str | Path) -> nn.Module:
    """The trained model of a run's folder, or of a model.safetensors file, in eval mode.

    It has `.classes` (names in the order of the labels), `.preprocess` (events -> frames [T, 1, C, H, W]) and
    `.metrics`, so `model(model.preprocess(events)).argmax()` classifies a recording.

    A model that is registered by a recipe of one's own is found where the recipe still lies where it was trained from: its file is run.

    Raises:
        FormatError: nothing there, damaged, of a newer version, or weights of another model.
        UnknownName: of a model that neither we nor the run's recipe register.
    """
    path = Path(run)
    if not path.exists():
        raise FormatError(explain(f"there is no run {path}.", "neither a folder nor a file of that name", cure=NAMED))
    if path.is_file() and path.suffix != ".safetensors":
        raise FormatError(explain(f"{path} is not a run.", "it is a file, and no model.safetensors", cure=NAMED))
    if not path.is_dir():
        return _loaded(path)
    file = path / "model.safetensors"
    if not file.exists():
        begun = (path / "recipe.json").exists()
        cure = f"Its training has not ended. Go on: neuro train --resume {path}" if begun else "It is not the folder of a run."
        raise FormatError(explain(f"there is no model in {path}.", cure=cure))
    return _loaded(file)


def _loaded(file: Path) -> nn.Module:
    """The model of a file; where its name is not known, after the recipe of its run, which may register it."""
    try:
        return load_model(file)
    except UnknownName as error:
        recipe, why = _own_recipe(file.parent)
        if recipe is None:
            cure = "Import what registers it before neuro.load, or train it by a recipe file, neuro train FILE.py, which commands then find."
            raise UnknownName(explain(*str(error).split("\n  "), why, cure=cure)) from error
    from neuro.models import recipes

    recipes.load(str(recipe))
    return load_model(file)


def _own_recipe(folder: Path) -> tuple[Path | None, str]:
    """The file by which a run was made, if it is not one of ours; or why it is not taken."""
    if not (folder / "recipe.json").exists():
        return None, ""
    recipe = Path(Run.open(folder).recipe)
    if recipe.suffix != ".py" or not recipe.is_absolute():
        return None, ""
    if not recipe.is_file():
        return None, f"the run's recipe is no longer at {recipe}"
    if folder.resolve() in recipe.resolve().parents:  # what came with a run from elsewhere is not run
        return None, f"the run's recipe lies in the run's own folder, {recipe}, and is not run from there"
    return recipe, ""


def versions() -> dict[str, Any]:
    """What the result may depend on besides recipe and seed."""
    found: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def _rank() -> int:
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
