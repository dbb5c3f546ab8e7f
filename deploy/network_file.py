"""The network file: one `.npz` (a zip of NumPy arrays, no pickles) that needs neither PyTorch nor Lava to read.

Entries: `document`, UTF-8 JSON as uint8, and one integer array `<node>.<field>` per weight and bias. The document:

    {"format": "neuro integer network", "version": 1, "name": ..., "latency": {node: steps},
     "nodes": [{"name", "kind", "shape", "inputs", "parameters", "arrays": [fields]}, ...],
     "edges": [{"from", "to", "port", "delay"}, ...], "checksum": sha256}

The checksum covers the document without itself (sorted keys, no spaces) and every array's name, dtype, shape, bytes.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from neuro.deploy.joins import KIND_OF, KINDS
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.nodes import Node
from neuro.errors import FormatError, GraphError, explain
from neuro.files import replacing

FORMAT = "neuro integer network"
VERSION = 1
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
FLOOR, RATIO, CEILING = 2**26, 200, 2**31  # bytes of arrays read without being told: so many, or so many times the file's own
Arrays = dict[str, np.ndarray]


def checksum(document: dict[str, Any], arrays: Arrays) -> str:
    """sha256 over the document (without its checksum) and the arrays, in order of name."""
    plain = {key: value for key, value in document.items() if key != "checksum"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(arrays):
        a = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {a.dtype.str} {list(a.shape)}".encode())
        digest.update(a.tobytes())
    return digest.hexdigest()


def describe(network: IntegerNetwork) -> tuple[dict[str, Any], Arrays]:
    """The document, with its checksum, and the arrays of a network."""
    arrays = {f"{n.name}.{f}": getattr(n, f) for n in network.nodes for f in n.array_fields}
    nodes = [{"name": n.name, "kind": KIND_OF[type(n)], "shape": list(network.shapes[n.name]),
              "inputs": list(n.inputs), "parameters": n.parameters(), "arrays": list(n.array_fields)}
             for n in network.nodes]
    edges = [{"from": source, "to": n.name, "port": port, "delay": delay} for n in network.nodes
             for port, (source, delay) in enumerate(zip(n.inputs, network.delays[n.name], strict=True))]
    document = {"format": FORMAT, "version": VERSION, "name": network.name, "nodes": nodes, "edges": edges,
                "latency": network.latency}
    document = json.loads(json.dumps(document, default=int))     # tuples become lists, NumPy integers become int
    document["checksum"] = checksum(document, arrays)
    return document, arrays


def write(path: str | Path, document: dict[str, Any], arrays: Arrays) -> Path:
    """Write whole or not at all. Raises WriteError."""
    path = Path(path)
    with replacing(path) as file:
        text = np.frombuffer(json.dumps(document).encode(), np.uint8)
        np.savez_compressed(file, document=text, **arrays)
    return path


def save(network: IntegerNetwork, path: str | Path) -> Path:
    """Check the network against the chip's rules and write it. Raises GraphError, WriteError; never leaves half a file."""
    network.check()
    return write(path, *describe(network))


def damaged(path: str | Path, fact: str, cure: str = "") -> FormatError:
    return FormatError(explain(f"{path}: not a readable network file.", fact, cure=cure))


def read_arrays(path: str | Path, limit: int | None) -> Arrays:
    """All arrays of an npz. What a header declares is checked before memory is taken for it."""
    if limit is None:
        limit = min(CEILING, max(FLOOR, RATIO * Path(path).stat().st_size))
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        total = sum(e.file_size for e in entries)
        if total > limit or len(entries) > 100_000:
            raise damaged(path, f"{len(entries)} entries declare {total} bytes; the limit is {limit}.",
                          cure="If you trust the file, pass a larger limit.")
        for entry in entries:
            if entry.compress_type not in METHODS:
                raise damaged(path, f"{entry.filename} is compressed by method {entry.compress_type}, which we never write.")
        arrays = {}
        for entry in entries:
            with archive.open(entry) as stream:
                version = np.lib.format.read_magic(stream)
                header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, fortran, dtype = header[version](stream)
                size = dtype.itemsize
                for axis in shape:
                    size *= axis
                if dtype.kind not in "iu" or fortran or size < 0 or size > entry.file_size:
                    raise damaged(path, f"{entry.filename}: {dtype} {shape} in {entry.file_size} bytes.")
                data = stream.read(size + 1)
                if len(data) != size:
                    raise damaged(path, f"{entry.filename}: {len(data)} bytes where {size} are declared.")
                arrays[entry.filename.removesuffix(".npy")] = np.frombuffer(data, dtype).reshape(shape)
    return arrays


def build(entry: dict[str, Any], arrays: Arrays) -> Node:
    """One node from its entry in the document."""
    cls = KINDS[entry["kind"]]
    values = {f: arrays[f"{entry['name']}.{f}"] for f in cls.array_fields}
    values |= {k: tuple(v) if isinstance(v, list) else v for k, v in entry["parameters"].items()}
    if entry["kind"] == "add":
        values["inputs"] = tuple(entry["inputs"])
    elif entry["kind"] == "attention":
        values |= dict(zip("qkv", entry["inputs"], strict=True))
    elif entry["kind"] != "input":
        (values["input"],) = entry["inputs"]
    return cls(name=entry["name"], **values)


def load(path: str | Path, limit: int | None = None) -> IntegerNetwork:
    """Read a network file.

    Args:
        limit: largest total size of its arrays, bytes; None: 200 times the file's own, at least 64 MiB and at most 2 GiB, so
            that a small file cannot fill the memory.

    Raises:
        FormatError: damaged, truncated, foreign, of a newer version, over the limit, or delays that do not align.
        FileNotFoundError: no such file.
    """
    try:
        arrays = read_arrays(path, limit)
        document = json.loads(arrays.pop("document").tobytes())
        if document["format"] != FORMAT:
            raise damaged(path, f"Its format is {document['format']!r}, not {FORMAT!r}.")
        if int(document["version"]) > VERSION:
            raise damaged(path, f"It has version {document['version']}; this package reads up to {VERSION}.",
                          cure="Update neuro.")
        if checksum(document, arrays) != document["checksum"]:
            raise damaged(path, "The checksum does not match.", cure="It changed after it was written; write it anew.")
        if not isinstance(document["name"], str):
            raise damaged(path, f"Its name is {document['name']!r}, not text.")
        network = IntegerNetwork([build(entry, arrays) for entry in document["nodes"]], document["name"])
        if describe(network)[0] != document:
            raise damaged(path, "Its delays, latencies or shapes are not those of its nodes.", cure="Write it anew.")
    except (FormatError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except GraphError as error:
        raise damaged(path, str(error)) from error
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, EOFError, OSError, OverflowError,
            NotImplementedError, RuntimeError, RecursionError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}", cure="It may be truncated; write it anew.") from error
    except Exception as error:      # zlib.error is not a subclass of any of these
        if type(error).__module__ != "zlib":
            raise
        raise damaged(path, f"A compressed block is broken: {error}") from error
    return network
