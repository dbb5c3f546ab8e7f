"""The modules of a model and their paths, as they are without the wrappers of torch.compile and data-parallel training."""

from __future__ import annotations

from torch import nn


def module_paths(model: nn.Module) -> dict[nn.Module, str]:
    """Every module of the bare model and its path, without what torch.compile and data-parallel wrappers add."""
    paths: dict[nn.Module, str] = {}

    def walk(module: nn.Module, path: str) -> None:
        inner = unwrapped(module)
        if inner in paths:
            return
        paths[inner] = path
        for name, child in inner.named_children():
            walk(child, f"{path}.{name}" if path else name)

    walk(model, "")
    return paths


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside torch.compile's and the data-parallel wrappers."""
    while True:
        if "_orig_mod" in module._modules:
            module = module._modules["_orig_mod"]
        elif isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        else:
            return module
