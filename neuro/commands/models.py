"""`neuro models`: what can be made by name."""

from __future__ import annotations

import torch

from neuro.errors import unknown
from neuro.models import registry


def main(match: str = "") -> None:
    """List the models by name with their numbers of parameters.

    Args:
        match: show only names that contain this.
    """
    names = [name for name in registry.names() if match in name]
    if not names:
        raise unknown("model", match, registry.names())
    width = max((len(name) for name in names), default=0)
    for name in names:
        entry = registry.entry(name)
        with torch.device("meta"):
            count = entry.parameters or sum(p.numel() for p in entry.make().parameters())
        says = (entry.make.__doc__ or "").strip().split("\n")[0]
        print(f"{name:<{width}}  {count:>12,}  {says}")
