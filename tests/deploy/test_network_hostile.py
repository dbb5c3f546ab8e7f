"""Network files made to harm: every cut, every changed byte, and every value of the document replaced, with a checksum that fits."""

import copy
import json
import tracemalloc

import numpy as np
import pytest

from neuro.deploy.cells import RecurrentCell
from neuro.deploy.network import LIF, Conv, Delay, Dense, Flatten, Input, IntegerNetwork, Readout, SumPool
from neuro.deploy.network_file import checksum, describe, write
from neuro.deploy.twin import run_twin
from neuro.errors import FormatError, GraphError

HOSTILE = [
    None, True, "", "x", "../../x", -1, 0, 3, 2**31, 2**63, 2**70, 1e308, 0.5, float("nan"), [], [0], [-1, -1], [2**40, 2**40], [10**6, 10**6, 10**6],
    [[]], {}, {"a": 1}, "\x00", "é" * 1000,
]  # fmt: skip


def small():
    """Few and small nodes of many kinds."""
    return IntegerNetwork([
        Input("x", (1, 3, 3), 2), Conv("c", "x", np.full((1, 1, 2, 2), 3)), LIF("l", "c", 100, 5), SumPool("p", "l", 2, 1), Delay("d", "p", 1),
        Flatten("f", "d"), Dense("g", "f", np.array([[2]])), RecurrentCell("r", "g", 7, 2, weight=np.array([[4]])), Readout("e", "r", np.zeros(1, int)),
    ], "small")  # fmt: skip


def tiny():
    return IntegerNetwork([Input("x", (2,)), Dense("d", "x", np.array([[2, 4]])), Readout("r", "d", np.zeros(1, int))], "t")


def paths(value, here=()):
    """Every place in a document: of dicts, lists and leaves."""
    yield here
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*here, key))


def replaced(document, path, value):
    document = copy.deepcopy(document)
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return document


def same(a, b):
    (da, xa), (db, xb) = describe(a), describe(b)
    return da == db and all((xa[k] == xb[k]).all() for k in xa)


def test_every_cut_is_refused(tmp_path):
    file = tiny().save(tmp_path / "n.npz")
    whole = file.read_bytes()
    for n in range(len(whole)):
        file.write_bytes(whole[:n])
        with pytest.raises(FormatError, match=r"n\.npz"):
            IntegerNetwork.load(file)


def test_every_changed_byte_is_found_or_harmless(tmp_path):
    network = tiny()
    file = network.save(tmp_path / "n.npz")
    whole, refused = file.read_bytes(), 0
    for n in range(len(whole)):
        file.write_bytes(whole[:n] + bytes([whole[n] ^ (0x01, 0x80, 0x41, 0xFF)[n % 4]]) + whole[n + 1:])
        try:
            assert same(network, IntegerNetwork.load(file)), n
        except FormatError:
            refused += 1
    assert refused > len(whole) // 2


def test_every_value_of_the_document_replaced_is_refused_or_another_network(tmp_path, monkeypatch):
    """With a fitting checksum: what is read then is not damage but malice."""
    from neuro.deploy import network_file

    network = small()
    document, arrays = describe(network)
    everywhere = [p for p in paths(document) if p and p[0] != "checksum"]
    held = {}
    monkeypatch.setattr(network_file, "read_arrays", lambda path, limit: {**held["arrays"], "document": np.frombuffer(held["text"], np.uint8)})
    accepted, tries = [], 0
    for i, path in enumerate(everywhere):
        for value in (HOSTILE * 2)[i % len(HOSTILE) :][:4]:  # each value meets every kind of place sooner or later
            bad = replaced(document, path, value)
            try:
                bad["checksum"] = checksum(bad, arrays)
            except (TypeError, ValueError):
                continue
            tries += 1
            held.update(arrays=dict(arrays), text=json.dumps(bad).encode())
            try:
                found = IntegerNetwork.load(tmp_path / "n.npz")
                if not same(network, found):
                    accepted.append((path, value, found))
            except FormatError as error:
                assert "n.npz" in str(error)
    assert tries > 400
    for path, value, found in accepted:  # another network that is one: a name, a constant; what the chip cannot hold does not run
        assert path == ("name",) or path[-1] in ("scale", "levels", "bias_exp", "message_bits", "steps", "dv", "du", "vth"), (path, value)
        try:
            run_twin(found, np.ones((2, 1, *found.input.shape), int))
        except GraphError:
            pass


def test_shapes_that_promise_much_take_no_memory(tmp_path):
    document, arrays = describe(small())
    document = replaced(json.loads(json.dumps(document)), ("nodes", 0, "parameters", "shape"), [1, 10**6, 10**6])
    document["checksum"] = checksum(document, arrays)
    path = write(tmp_path / "n.npz", document, arrays)
    tracemalloc.start()
    with pytest.raises(FormatError, match=r"n\.npz"):
        IntegerNetwork.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize("change", [
    lambda d, a: a.pop("c.weight"), lambda d, a: a.update({"more": np.zeros(1, int)}), lambda d, a: a.update({"c.weight": np.zeros((0, 1, 2, 2), int)}),
    lambda d, a: a.update({"c.weight": np.zeros((1, 1, 9, 9), int)}), lambda d, a: a.update({"g.weight": np.zeros((1, 2), int)}),
    lambda d, a: a.update({"c.weight": np.full((1, 1, 2, 2), 2**40)}), lambda d, a: d["nodes"].append(d["nodes"][1]), lambda d, a: d["nodes"].reverse(),
    lambda d, a: d["nodes"].pop(3), lambda d, a: d["nodes"][2].update(inputs=["l"]), lambda d, a: d["nodes"][2].update(kind="cell"),
    lambda d, a: d["nodes"][0].update(parameters={"shape": [2**31, 2**31, 2**31], "message_bits": 2}), lambda d, a: d.pop("nodes"),
], ids=range(13))  # fmt: skip
def test_other_malice_with_a_fitting_checksum(tmp_path, change):
    document, arrays = describe(small())
    document = json.loads(json.dumps(document))
    change(document, arrays)
    document["checksum"] = checksum(document, arrays)
    with pytest.raises(FormatError, match=r"n\.npz"):
        IntegerNetwork.load(write(tmp_path / "n.npz", document, arrays))


@pytest.mark.parametrize("text", [b"", b"[" * 100_000, b"{", b"\xff\xfe", b"3", b"null", b'{"format": "neuro integer network", "version": Infinity}', b"1" * 10_000],
                         ids=range(8))
def test_documents_that_are_none(tmp_path, text):
    np.savez_compressed(tmp_path / "n.npz", document=np.frombuffer(text, np.uint8))
    with pytest.raises(FormatError, match=r"n\.npz"):
        IntegerNetwork.load(tmp_path / "n.npz")
