"""A trained model as two files: `model.safetensors` holds the tensors, `model.json` what they belong to."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

import neuro
from neuro.errors import FormatError, NeuroError, ParameterError, explain
from neuro.files import check_format, read_json, replacing, write_json
from neuro.models import registry
from neuro.module_paths import unwrapped
from neuro.training.described import build, describe

FORMAT, VERSION = "neuro-model", 1
SHOWN = 4  # tensors named in an error


def save_model(
    model: nn.Module,
    folder: str | Path,
    *,
    classes: Sequence[str] = (),
    preprocess: Any = None,
    metrics: Mapping[str, float] | None = None,
) -> Path:
    """Write `model.safetensors` and `model.json` into `folder`; each replaces an older one whole or not at all.

    Args:
        model: made by a function under `neuro.models.register`, or by `neuro.models.create`.
        classes: their names, in the order of the labels.
        preprocess: what turns events into its input, a dataclass of neuro such as `Preprocess(Frames(bins=10), sensor)`.
        metrics: figures to keep with it.

    Returns:
        The path of model.safetensors.

    Raises:
        ParameterError: a model that is not registered, or changes that cannot be written as data.
        WriteError: a full disk; the old files stay.
    """
    model = unwrapped(model)
    made = how_made(model, "save_model")
    about = {
        "format": FORMAT,
        "version": VERSION,
        "model": made.name,
        "changes": describe(made.changes),
        "config": _config(model),
        "classes": [str(c) for c in classes],
        "preprocess": describe(preprocess),
        "parameters": sum(p.numel() for p in model.parameters()),
        "metrics": {k: finite(v) for k, v in (metrics or {}).items()},
        "neuro": neuro.__version__,
    }
    path = Path(folder) / "model.safetensors"
    with replacing(path) as file:
        file.write(safetensors.torch.save(_tensors(model), {FORMAT: json.dumps(about)}))
    write_json(path.with_suffix(".json"), about)
    return path


def how_made(model: nn.Module, act: str) -> registry.Registered:
    """The name and the changes by which a model was made. Raises ParameterError for one that is not registered."""
    made = getattr(unwrapped(model), "registered", None)
    if made is None:
        cure = "Put @neuro.models.register() over a function that returns it, and make it by calling that."
        raise ParameterError(explain(f"{act}: this {type(unwrapped(model)).__name__} does not say how it was made, so a file could not be read again.", cure=cure))
    return made


def load_model(path: str | Path) -> nn.Module:
    """Make the model that `path` (model.safetensors) holds, in eval mode, with `.classes`, `.preprocess`, `.metrics`.

    Raises:
        FormatError: missing, damaged, of a newer version, or tensors that belong to another model.
        UnknownName: a model name that is not registered here.
    """
    path = Path(path)
    tensors, inside = read_tensors(path)
    beside = path.with_suffix(".json")
    about = read_json(beside, FORMAT, VERSION) if beside.exists() or inside is None else inside
    check_format(path, about, FORMAT, VERSION)
    try:
        name, changes = about["model"], build(about["changes"])
        classes, preprocess = about["classes"], build(about["preprocess"])
        model = _as_saved(registry.create(name, **changes), about.get("config"))
    except NeuroError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(explain(f"{beside} does not describe a model.", f"{type(error).__name__}: {error}")) from error
    fill(model, tensors, path, name, (inside or {}).get("model"))
    refuse_other(path, name, (inside or {}).get("model", name))
    model.classes, model.preprocess, model.metrics = tuple(classes), preprocess, about.get("metrics", {})
    return model.eval()


def _config(model: nn.Module) -> dict[str, Any] | None:
    """All fields of the model's Config, so that a name whose sizes or constants change later still gives this model."""
    config = getattr(model, "config", None)
    return {f.name: describe(getattr(config, f.name)) for f in dataclasses.fields(config)} if dataclasses.is_dataclass(config) else None


def _as_saved(model: nn.Module, config: Mapping[str, Any] | None) -> nn.Module:
    """The model with the Config it was saved with, where the registered one has become another."""
    if config is None or _config(model) == dict(config):
        return model
    fields = {field: build(value) for field, value in config.items()}
    saved = type(model)(dataclasses.replace(model.config, **fields))
    saved.registered = registry.Registered(model.registered.name, fields)
    return saved


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fill a model of your own making with the tensors of a file, which must fit exactly."""
    path = Path(path)
    tensors, inside = read_tensors(path)
    made = getattr(unwrapped(model), "registered", None)
    fill(unwrapped(model), tensors, path, made.name if made else type(model).__name__, (inside or {}).get("model"))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors of a safetensors file, and what it says about itself if it is one of ours."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get(FORMAT)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        inside = json.loads(said) if said else None
    except FileNotFoundError as error:
        raise FormatError(explain(f"there is no {path}.")) from error
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        cure = "It is damaged, truncated, or not a safetensors file."
        raise FormatError(explain(f"{path} cannot be read.", str(error), cure=cure)) from error
    if inside is not None:
        check_format(path, inside, FORMAT, VERSION)
    return tensors, inside


def fill(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, name: str, theirs: str | None) -> None:
    """Copy tensors into a model if names and shapes agree; else say where they do not.

    Args:
        name: of the model; theirs: the name that the file gives.
    """
    own = model.state_dict()
    missing = sorted(set(own) - set(tensors))
    unexpected = sorted(set(tensors) - set(own))
    shapes = [
        f"{k} {list(tensors[k].shape)} instead of {list(own[k].shape)}"
        for k in sorted(set(own) & set(tensors))
        if own[k].shape != tensors[k].shape
    ]
    if missing or unexpected or shapes:
        raise FormatError(
            explain(
                f"{path} does not fit the model {name!r}.",
                f"it was saved from {theirs!r}" if theirs else "it does not say which model it was saved from",
                _few("missing", missing),
                _few("unexpected", unexpected),
                _few("of another shape", shapes),
                cure="Take the file that was saved from this model with these changes.",
            )
        )
    model.load_state_dict(dict(tensors))


def refuse_other(path: Path, name: str, theirs: str) -> None:
    """Refuse tensors that fit by their shapes, but were saved from a model of another name."""
    if name != theirs:
        cure = "Take the file that was saved from this model, or fill the model by neuro.training.load_weights."
        raise FormatError(explain(f"{path} was saved from the model {theirs!r}, not from {name!r}.", cure=cure))


def finite(value: Any) -> Any:
    """A figure as JSON holds it; not-a-number and infinity become null."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Its state as separate contiguous CPU tensors, which is what safetensors stores."""
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}


def _few(what: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}" if names else ""
