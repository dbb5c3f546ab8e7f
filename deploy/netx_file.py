"""netx HDF5, lava-dl's network format, as plain layers: written as lava-dl reads it, read with bounded memory.

`/layer/0` .. `/layer/n-1`, each with `type` (bytes, one element) and, where the type needs them,

    shape [C, H, W] or [N];  dense: inFeatures, outFeatures, weight [O, I];  bias, delay;  dense_rec: also weight_rec [O, O]
    conv: inChannels, outChannels, kernelSize, stride, padding, dilation, groups, weight [O, I, kh, kw]
    neuron/type, neuron/iDecay, neuron/vDecay, neuron/vThMant, neuron/refDelay, neuron/gradedSpike

Source: lava-dl 0.6.0, `netx/hdf5.py`, `netx/utils.py` (reader), `slayer/block/base.py` (writer). What the format has no
field for is kept in `/neuro/document`, JSON as bytes, which lava-dl does not look at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neuro.errors import FormatError, explain, nothing_there
from neuro.files import replacing

ARRAYS = ("shape", "weight", "weight_rec", "bias", "delay", "inFeatures", "outFeatures", "inChannels", "outChannels", "kernelSize", "stride",
          "padding", "dilation", "groups")
NEURON = ("iDecay", "vDecay", "vThMant", "refDelay", "gradedSpike", "messageBits")
MOST_LAYERS = 10_000
MOST_TEXT = 64          # bytes of a type
MOST_DOCUMENT = 2**22   # bytes of what we add
SLACK = 2**16           # bytes that arrays may take beyond the file's own: small arrays can lie inside their headers


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer as the file has it: `values` are integer arrays by name, `neuron` integers and its `type`, or None."""

    kind: str
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    neuron: Mapping[str, Any] | None = None

    def number(self, name: str) -> int:
        """A field that holds one number."""
        return int(self.values[name].reshape(-1)[0])


def write(path: str | Path, layers: Sequence[Layer], document: Mapping[str, Any]) -> Path:
    """Write whole or not at all. Raises WriteError."""
    import h5py

    path = Path(path)
    with replacing(path) as stream, h5py.File(stream, "w") as file:
        for i, layer in enumerate(layers):
            group = file.create_group(f"layer/{i}")
            group.create_dataset("type", (1,), "S10", [layer.kind.encode("ascii")])
            for name, value in layer.values.items():
                group[name] = value
            for name, value in (layer.neuron or {}).items():
                group[f"neuron/{name}"] = np.bytes_(value) if isinstance(value, str) else value
        file["neuro/document"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
    return path


def read(path: str | Path) -> tuple[list[Layer], dict[str, Any]]:
    """(layers, what we added or {}).

    Only plainly stored arrays are read, as lava-dl writes them, so that memory is bounded by the file's own size.

    Raises:
        FormatError: not HDF5, damaged, not netx; chunks, filters, links, or arrays that are not in the file.
        FileNotFoundError: no such file.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(nothing_there("file", path))
    size = path.stat().st_size
    try:
        with h5py.File(path, "r") as file:
            return _Reader(path, size).file(file)
    except FormatError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        fact = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(explain(f"{path}: not a readable netx file.", fact, cure="It may be truncated, or not HDF5; write it anew.")) from error


class _Reader:
    """Reads known fields of known groups; nothing else of the file is touched."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size, self.left = path, size, size + SLACK

    def refuse(self, *facts: str, cure: str = "") -> FormatError:
        return FormatError(explain(f"{self.path}: not a readable netx file.", *facts, cure=cure))

    def file(self, file: Any) -> tuple[list[Layer], dict[str, Any]]:
        group = self.item(file, "layer")
        if group is None or not hasattr(group, "keys"):
            raise self.refuse("It has no group 'layer'.", cure="Give a file that lava-dl's export_hdf5 or `neuro lava netx` wrote.")
        count = len(group)
        if not 1 <= count <= MOST_LAYERS:
            raise self.refuse(f"It has {count} layers; 1..{MOST_LAYERS} are read.")
        layers = []
        for i in range(count):
            layer = self.item(group, str(i))
            if layer is None or not hasattr(layer, "keys"):
                raise self.refuse(f"/layer/{i} is missing; {count} layers are numbered from 0.")
            layers.append(self.layer(layer, i))
        return layers, self.document(file)

    def layer(self, group: Any, i: int) -> Layer:
        kind = self.text(group, "type", f"/layer/{i}/type")
        values = {}
        for name in ARRAYS:
            value = self.array(group, name, f"/layer/{i}/{name}")
            if value is not None:
                values[name] = value
        neuron = self.item(group, "neuron")
        if neuron is None:
            return Layer(kind, values)
        if not hasattr(neuron, "keys"):
            raise self.refuse(f"/layer/{i}/neuron is not a group.")
        found: dict[str, Any] = {"type": self.text(neuron, "type", f"/layer/{i}/neuron/type")}
        for name in NEURON:
            value = self.array(neuron, name, f"/layer/{i}/neuron/{name}")
            if value is not None:
                if value.size != 1:
                    raise self.refuse(f"/layer/{i}/neuron/{name} holds {value.size} numbers.", cure="One per layer is possible.")
                found[name] = int(value.reshape(-1)[0])
        return Layer(kind, values, found)

    def item(self, group: Any, name: str) -> Any:
        """A child, or None. Links are refused: they may lead out of the file or round in circles."""
        import h5py

        link = group.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise self.refuse(f"{group.name}/{name} is a link.", cure="Store the data itself.")
        return group[name]

    def plain(self, data: Any, where: str) -> None:
        """Refuse data that is not stored byte by byte in this file."""
        import h5py

        if not isinstance(data, h5py.Dataset) or data.shape is None:
            raise self.refuse(f"{where} is not an array.")
        plist = data.id.get_create_plist()
        stored = data.size * data.dtype.itemsize
        if data.dtype.kind != "O" and plist.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) or plist.get_nfilters() or data.external or data.is_virtual:
            raise self.refuse(f"{where} is chunked, compressed or kept elsewhere.", cure="Store it plainly: h5repack -l CONTI -f NONE OLD NEW")
        if data.dtype.kind != "O" and data.id.get_storage_size() != stored:
            raise self.refuse(f"{where}: {data.id.get_storage_size()} bytes where {list(data.shape)} {data.dtype} takes {stored}.")
        self.left -= stored
        if self.left < 0:
            raise self.refuse(f"{where}: its arrays take more bytes than the file has.")

    def array(self, group: Any, name: str, where: str) -> np.ndarray | None:
        """Whole numbers as int64, or None where the field is missing. lava-dl stores them as float32 and cuts them off."""
        data = self.item(group, name)
        if data is None:
            return None
        if hasattr(data, "keys"):
            raise self.refuse(f"{where} is a group: complex weights.", cure="Resonate-and-fire layers are not read.")
        self.plain(data, where)
        if data.dtype.kind not in "biuf":
            raise self.refuse(f"{where} has dtype {data.dtype}.", cure="Numbers are needed.")
        value = data[()]
        value = np.asarray(value)
        if not value.size:
            raise self.refuse(f"{where} is empty.")
        if value.dtype.kind == "f" and not (np.isfinite(value).all() and (value == np.round(value)).all()):
            raise self.refuse(f"{where} holds numbers that are not whole.", cure="Export the quantised weights.")
        if np.abs(value.astype(np.float64)).max() >= 2**31:
            raise self.refuse(f"{where} reaches beyond 32 bits.")
        return value.astype(np.int64)

    def text(self, group: Any, name: str, where: str) -> str:
        """A short text: fixed bytes, or one string of variable length, whose length is looked at before it is read."""
        data = self.item(group, name)
        if data is None:
            raise self.refuse(f"{where} is missing.")
        self.plain(data, where)
        if data.size != 1 or data.dtype.kind not in "SO":
            raise self.refuse(f"{where} is {list(data.shape)} {data.dtype}, not one text.")
        length = data.dtype.itemsize if data.dtype.kind == "S" else self.declared(data, where)
        if length > MOST_TEXT:
            raise self.refuse(f"{where} is a text of {length} bytes.")
        value = data[()] if data.shape == () else data[:].reshape(-1)[0]
        return (value.decode("ascii") if isinstance(value, bytes) else str(value)).rstrip("\0")

    def declared(self, data: Any, where: str) -> int:
        """The length that a string of variable length claims: HDF5 takes memory for it before it looks for the bytes."""
        import h5py

        offset = data.id.get_offset()
        if h5py.check_string_dtype(data.dtype) is None or offset is None or data.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
            raise self.refuse(f"{where} has dtype {data.dtype}, stored in a way that is not read.", cure="Store it as fixed bytes.")
        with self.path.open("rb") as raw:
            raw.seek(offset)
            return int.from_bytes(raw.read(4), "little")

    def document(self, file: Any) -> dict[str, Any]:
        group = self.item(file, "neuro")
        data = None if group is None or not hasattr(group, "keys") else self.item(group, "document")
        if data is None:
            return {}
        self.plain(data, "/neuro/document")
        if data.dtype != np.uint8 or data.ndim != 1 or data.size > MOST_DOCUMENT:
            raise self.refuse(f"/neuro/document is {list(data.shape)} {data.dtype}.")
        found = json.loads(data[()].tobytes())
        if not isinstance(found, dict):
            raise self.refuse("/neuro/document is not a JSON object.")
        return found
