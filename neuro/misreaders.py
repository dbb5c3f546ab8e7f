"""Plain torch layers that misread [T, B, ...]: they take time for batch, or batch for channels, without a message."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from neuro.errors import ShapeError, explain

_MISREAD = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.Flatten, nn.Unflatten,
    nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout,
    nn.LocalResponseNorm, nn.LPPool1d, nn.LPPool2d, nn.Softmax2d,
)  # fmt: skip


def misreads_time(module: nn.Module) -> bool:
    """Whether a plain torch layer would take time for batch, or batch for channels, in [T, B, ...]."""
    per_channel = isinstance(module, nn.PReLU) and module.num_parameters > 1  # along axis 1, which is the batch
    return (per_channel or isinstance(module, _MISREAD)) and not getattr(module, "time_aware", False)


def refuse_misreaders(paths: Mapping[nn.Module, str], act: str = "run") -> None:
    """Refuse plain torch layers that would misread [T, B, ...], unless they stand inside `neuro.layers.Fold`."""
    folded = tuple(path + "." for module, path in paths.items() if getattr(module, "folds_time", False))
    for module, path in paths.items():
        if misreads_time(module) and not path.startswith(folded):
            raise ShapeError(
                explain(
                    f"{act}: {path or 'the model'} is a torch.nn.{type(module).__name__}, which does not know the time axis.",
                    "In [T, B, ...] it would take time for batch, or mix samples, without a message.",
                    cure=f"Use neuro.layers.{type(module).__name__} if there is one, or wrap it: neuro.layers.Fold(...).",
                )
            )
