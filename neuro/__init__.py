"""neuro: spiking networks written once, trained fast, counted honestly, quantised, and run on a neuromorphic simulator."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {  # public name -> the module that defines it; loaded on first use, so that `import neuro` stays light
    "scan": "neuro.scanning",
    "deterministic": "neuro.kernels.choosing",
    "run": "neuro.state",
    "detach": "neuro.state",
    "checkpoint": "neuro.state",
    "activity": "neuro.measuring",
    "trace": "neuro.tracing",
    "compile_inference": "neuro.inference",
    "keep_memory": "neuro.memory",
    "load": "neuro.training.runs",
    "health": "neuro.training.health",
}
_MODULES = (
    "neurons", "layers", "reset", "surrogate", "errors", "encode", "loss", "models", "datasets", "deploy", "training",
    "plots", "graph", "report", "interop",
)  # fmt: skip

__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"neuro.{name}")
    raise AttributeError(f"module 'neuro' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
