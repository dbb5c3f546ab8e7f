if __name__ != "neuro.models":
    raise ImportError(
        f"models: imported as a top-level package named {__name__!r}, but it is part of neuro.\n"
        "  The root of the repository is on sys.path. Run from elsewhere, or remove it, and import neuro.models."
    )

from neuro.models.registry import create, entry, names, register, small

__all__ = ["create", "entry", "names", "register", "small"]
