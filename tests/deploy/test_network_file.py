"""The network file: nothing is lost, nothing damaged is read, nothing half-written is left."""

import io
import os
import zipfile

import numpy as np
import pytest

from neuro.deploy.examples import transformer
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.network_file import describe, write
from neuro.errors import FormatError, GraphError


def same(a, b):
    (da, xa), (db, xb) = describe(a), describe(b)
    return da == db and xa.keys() == xb.keys() and all((xa[k] == xb[k]).all() for k in xa)


@pytest.fixture
def file(network, tmp_path):
    return network.save(tmp_path / "network.npz")


def test_round_trip(network, file):
    assert same(network, IntegerNetwork.load(file)) and os.listdir(file.parent) == ["network.npz"]
    again = transformer(np.random.default_rng(0), 16, (4, 8), blocks=1)
    assert same(again, IntegerNetwork.load(again.save(file)))


def test_truncated_files_are_refused(file):
    whole = file.read_bytes()
    for n in [0, 1, 10, 100, *range(200, len(whole), len(whole) // 12), len(whole) - 1]:
        file.write_bytes(whole[:n])
        with pytest.raises(FormatError, match="network.npz"):
            IntegerNetwork.load(file)


def test_a_flipped_byte_is_found_or_harmless(network, file):
    whole, refused = file.read_bytes(), 0
    for n in range(0, len(whole), len(whole) // 60):
        file.write_bytes(whole[:n] + bytes([whole[n] ^ 0x41]) + whole[n + 1:])
        try:
            assert same(network, IntegerNetwork.load(file))     # a time stamp of the zip, say
        except FormatError:
            refused += 1
    assert refused > 30


def test_a_changed_weight_is_found(network, file):
    document, arrays = describe(network)
    arrays["a.conv.weight"] = arrays["a.conv.weight"] + 2
    with pytest.raises(FormatError, match="checksum"):
        IntegerNetwork.load(write(file, document, arrays))


@pytest.mark.parametrize("change, said", [(dict(version=2), "version 2"), (dict(format="other"), "other"),
                                          (dict(nodes=3), "TypeError|checksum"), (dict(version="x"), "ValueError")])
def test_newer_and_foreign_files_are_refused(network, file, change, said):
    document, arrays = describe(network)
    with pytest.raises(FormatError, match=said):
        IntegerNetwork.load(write(file, {**document, **change}, arrays))


def test_other_archives_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    np.save(tmp_path / "b.npz.npy", np.arange(3))
    np.savez(tmp_path / "c.npz", document=np.array([{"a": 1}], dtype=object))
    for name in ("a.npz", "b.npz.npy", "c.npz"):
        with pytest.raises(FormatError):
            IntegerNetwork.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        IntegerNetwork.load(tmp_path / "none.npz")


def test_headers_that_promise_too_much_take_no_memory(file):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("document.npy", header.getvalue())
    with pytest.raises(FormatError, match="document.npy"):
        IntegerNetwork.load(file)


def test_the_limit_is_kept(network, file):
    with pytest.raises(FormatError, match="limit is 1000"):
        IntegerNetwork.load(file, limit=1000)


def test_a_small_file_cannot_fill_the_memory(network, file):
    """Zeros: 100 MB that come in 0.1 MB."""
    document, arrays = describe(network)
    write(file, document, {**arrays, "more": np.zeros(100 * 2**20, np.int8)})
    assert file.stat().st_size < 200_000
    with pytest.raises(FormatError, match="the limit is 67108864(.|\\n)*larger limit"):
        IntegerNetwork.load(file)
    with pytest.raises(FormatError, match="checksum"):  # it is read then, and found to be another
        IntegerNetwork.load(file, limit=2**28)


def test_other_ways_to_compress_are_refused(file):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("document.npy", b"0" * 100)
    with pytest.raises(FormatError, match="method 14"):
        IntegerNetwork.load(file)


@pytest.mark.parametrize("step", ["os.fsync", "os.replace", "numpy.savez_compressed"])
def test_a_full_disk_leaves_nothing_and_keeps_the_old_file(network, file, step, monkeypatch):
    before = file.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(step, full)
    with pytest.raises(OSError, match="No space"):
        network.save(file)
    with pytest.raises(OSError, match="No space"):
        network.save(file.with_name("new.npz"))
    assert os.listdir(file.parent) == ["network.npz"] and file.read_bytes() == before


def test_what_the_chip_cannot_hold_is_not_written(tmp_path):
    net = transformer(np.random.default_rng(0), 16, (4, 8), blocks=1, vth=0)
    with pytest.raises(GraphError, match="vth"):
        net.save(tmp_path / "n.npz")
    assert not os.listdir(tmp_path)
