"""Recordings of events: made, read, transformed and loaded. Names load their module on first use."""

import importlib

if __name__ != "neuro.datasets":
    raise ImportError(
        f"datasets: imported as a top-level package named {__name__!r}, but it is part of neuro.\n"
        "  The root of the repository is on sys.path. Run from elsewhere, or remove it, and import neuro.datasets."
    )

WHERE = {
    "EVENT": "events",
    "Recording": "events",
    "EventFile": "reading",
    "read_events": "reading",
    "iterate_events": "reading",
    "write_events": "reading",
    "Sensor": "events",
    "make_events": "events",
    "Camera": "simulate",
    "VideoCamera": "video",
    "read_frames": "pictures",
    "make_motions": "motions",
    "pan": "panning",
    "SaccadeRecordings": "saccades",
    "Triangle": "saccades",
    "Frames": "transforms",
    "CountFrames": "slices",
    "SlidingFrames": "slices",
    "VoxelGrid": "voxels",
    "TimeSurface": "surfaces",
    "LeakyFrames": "surfaces",
    "AveragedSurface": "hats",
    "StackedHistogram": "stacking",
    "BinaRep": "stacking",
    "Points": "points",
    "SamplePoints": "points",
    "Denoise": "denoise",
    "RemoveHotPixels": "denoise",
    "Refractory": "thinning",
    "Decimate": "thinning",
    "Crop": "resizing",
    "CropTime": "resizing",
    "SpatialDownsample": "resizing",
    "IntegrateDownsample": "resizing",
    "TimeDownsample": "resizing",
    "EventMixup": "mixing",
    "EventCutMix": "mixing",
    "FromTonic": "foreign",
    "ForTonic": "foreign",
    "Batch": "loading",
    "EventFrames": "loading",
    "MixedFrames": "mixed",
    "collate": "loading",
    "CompactLoader": "compact",
    "cache_files": "cache",
    "cache_frames": "cache",
    "cache_recordings": "cache",
    "EpochBatches": "sampling",
    "EventDataModule": "datamodule",
    "ArrayDataModule": "arrays",
    "Centred": "centring",
    "NMNIST": "nmnist",
    "DVSObjects": "objects",
    "DVSGesture": "gesture",
    "DVSGestureStreams": "gesture",
    "CIFAR10DVS": "cifar10dvs",
    "NCaltech101": "ncaltech101",
    "ASLDVS": "asldvs",
    "NCars": "ncars",
    "DVSLip": "dvslip",
    "SHD": "shd",
    "SSC": "shd",
    "NTIDIGITS": "ntidigits",
    "Gen1": "detection",
    "OneMegapixel": "detection",
    "Remote": "downloads",
    "download": "downloads",
    "MNIST": "mnist",
    "FashionMNIST": "mnist",
    "SequentialMNIST": "sequential",
    "CIFAR10": "cifar10",
    "CIFAR10JPEG": "cifar10",
    "TextFile": "text",
    "WikiText2": "corpora",
    "PennTreebank": "corpora",
    "Enwik8": "corpora",
    "Vocabulary": "text",
    "UCIHAR": "ucihar",
    "FSDD": "fsdd",
    "SpeechCommands": "speech",
    "read_nas": "nas",
    "Braille": "braille",
    "WISDMWatch": "wisdm",
    "Examples": "examples",
    "EncodedExamples": "examples",
    "Split": "splits",
}
__all__ = sorted(WHERE)  # noqa: PLE0605


def __getattr__(name: str):
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
