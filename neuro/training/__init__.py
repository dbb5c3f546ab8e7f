"""Training, its run folder, and what is read from it.

`neuro.training.fit.fit` trains, `neuro.training.evaluate` scores a run on recordings; the names here load their module
on first use.
"""

import importlib

WHERE = {
    "Run": "runs",
    "load": "runs",
    "save_model": "weights",
    "load_weights": "weights",
    "Preprocess": "preprocess",
    "Classifier": "module",
    "Fitted": "fit",
}
__all__ = sorted(WHERE)  # noqa: PLE0605


def __getattr__(name: str):
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
