"""NIR files that are damaged, foreign, circular or absurd: a sentence that names the node, never a crash, never much memory."""

import zlib

import h5py
import nir
import numpy as np
import pytest
import torch

from neuro.deploy import nir as exchange
from neuro.deploy.nir_hdf5 import tree
from neuro.errors import FormatError
from neuro.scanning import plain_loop

ONE = np.ones(2)


@pytest.fixture(autouse=True)
def _loop():
    with plain_loop():
        yield


def node(kind, **values):
    return {"type": kind, **values}


def lif(**changes):
    return node("LIF", **{"tau": 2e-3 * ONE, "r": ONE, "v_leak": 0 * ONE, "v_threshold": ONE, **changes})


def write(path, nodes, edges, metadata=None):
    """A NIR file without the package's own checks."""

    def put(group, tree):
        for key, value in tree.items():
            if isinstance(value, dict):
                put(group.create_group(key), value)
            else:
                group[key] = value

    with h5py.File(path, "w") as f:
        f["version"] = "1.0"
        put(f.create_group("node"), {"type": "NIRGraph", "nodes": nodes, "metadata": metadata or {}})
        f["node"].create_dataset("edges", data=np.array(edges, dtype=object).reshape(-1, 2), dtype=h5py.string_dtype())
    return path


def ends(n=2):
    return {"in": node("Input", shape=np.array([n])), "out": node("Output", shape=np.array([n]))}


ROW = [("in", "a"), ("a", "out")]
LINEAR = node("Linear", weight=np.eye(2))


def inner():
    """A graph in a graph that passes on what it gets."""
    return {"type": "NIRGraph", "nodes": ends(), "edges": np.array([["in", "out"]], dtype=object)}


CASES = {
    "unknown kind": ({"a": node("Magic", r=ONE)}, ROW, "'a' is a 'Magic'"),
    "field missing": ({"a": node("IF", r=ONE)}, ROW, "v_threshold missing"),
    "edge to nowhere": ({"a": LINEAR}, [*ROW, ("a", "ghost")], "names no node"),
    "no edge in": ({"a": LINEAR, "b": LINEAR}, [*ROW, ("b", "out")], "'b'.*no edge enters"),
    "no edge out": ({"a": LINEAR, "b": LINEAR}, [*ROW, ("a", "b")], "'b'.*no edge leaves"),
    "edge twice": ({"a": LINEAR}, [*ROW, ("in", "a")], "twice"),
    "loop without a neuron": ({"a": LINEAR, "b": LINEAR}, [*ROW, ("a", "b"), ("b", "a")], "has no neuron"),
    "own loop without a neuron": ({"a": LINEAR}, [*ROW, ("a", "a")], "has no neuron"),
    "loop of two neurons": ({"a": lif(), "b": lif()}, [*ROW, ("a", "b"), ("b", "a")], "2 neurons"),
    "loop of a delay": ({"a": lif(), "b": node("Delay", delay=ONE)}, [*ROW, ("a", "b"), ("b", "a")], "not one Linear"),
    "loop of an integrator": ({"a": node("I", r=ONE), "b": LINEAR}, [*ROW, ("a", "b"), ("b", "a")], "without spikes"),
    "nothing but its own output": ({"a": lif(), "b": LINEAR, "c": LINEAR}, [("in", "c"), ("c", "out"), ("a", "b"), ("b", "a"), ("a", "out")], "'a'.*nothing enters"),
    "weight does not fit": ({"a": node("Linear", weight=np.ones((2, 3)))}, ROW, "'a'.*does not fit"),
    "neuron does not fit": ({"a": lif(tau=np.ones(3))}, ROW, "'a'.*tau does not fit"),
    "output does not fit": ({"a": node("Linear", weight=np.ones((3, 2)))}, ROW, "'out'"),
    "bias does not fit": ({"a": node("Affine", weight=np.eye(2), bias=np.ones(3))}, ROW, "bias"),
    "tau below dt": ({"a": lif(tau=1e-5 * ONE)}, ROW, "shorter than one step"),
    "tau zero": ({"a": lif(tau=0 * ONE)}, ROW, "shorter than one step"),
    "not a number": ({"a": lif(r=np.nan * ONE)}, ROW, "not a finite number"),
    "text for weights": ({"a": node("Linear", weight=["a", "b"])}, ROW, "not a finite number"),
    "kernel too large": ({"a": node("SumPool2d", kernel_size=[9, 9], stride=[1, 1], padding=[0, 0])}, ROW, "needs a map"),
    "delay absurd": ({"a": node("Delay", delay=1e9 * ONE)}, ROW, "100000"),
    "delay negative": ({"a": node("Delay", delay=-1e-3 * ONE)}, ROW, "'a'.*0 to 100000"),
    "delay of half a step": ({"a": node("Delay", delay=1.5e-3 * ONE)}, ROW, "'a'.*whole number of steps"),
    "type is a number": ({"a": node(7)}, ROW, "'a' does not say what it is"),
    "type is an array": ({"a": node(np.array([1.0, 2.0]))}, ROW, "'a' does not say what it is"),
    "type is a group": ({"a": {"type": {"x": 1}}}, ROW, "'a' does not say what it is"),
    "type missing": ({"a": {"weight": np.eye(2)}}, ROW, "'a' does not say what it is"),
    "node is an array": ({"a": np.eye(2)}, ROW, "'a' does not say what it is.*not a group"),
    "text for a number": ({"a": lif(r="1.5")}, ROW, "'a'.*r holds what is not a finite number"),
    "complex weights": ({"a": node("Linear", weight=np.eye(2) * 1j)}, ROW, "weight holds neither numbers nor text"),
    "weights of pairs": ({"a": node("Linear", weight=np.zeros((2, 2), [("x", "f4"), ("y", "i2")]))}, ROW, "weight holds neither numbers nor text"),
    "infinite weights": ({"a": node("Linear", weight=np.full((2, 2), np.inf))}, ROW, "not a finite number"),
    "beyond float32": ({"a": node("Linear", weight=np.eye(2) * 1e39)}, ROW, "'a'.*beyond float32"),
    "no numbers at all": ({"a": lif(tau=np.zeros(0))}, ROW, "'a'.*tau is empty"),
    "two starts of a flatten": ({"a": node("Flatten", start_dim=[0, 1], end_dim=-1)}, ROW, "'a'.*start_dim needs 1"),
    "integrator does not fit its threshold": ({"a": node("I", r=np.ones(3)), "b": node("Threshold", threshold=ONE)}, [("in", "a"), ("a", "b"), ("b", "out")], "'b'.*does not fit"),
    "identity in a loop": ({"a": node("Identity"), "b": lif()}, [("in", "a"), ("a", "a"), ("a", "b"), ("b", "out")], "'a'.*a loop leads through it"),
    "name of a node in a graph": ({"a": inner(), "a.in": LINEAR}, [*ROW, ("in", "a.in"), ("a.in", "out")], "two nodes are called 'a.in'"),
    "unknown rule": ({"a": lif(metadata={"reset": "sideways"})}, ROW, "sideways"),
    "two inputs": ({"a": LINEAR, "in2": node("Input", shape=np.array([2]))}, [*ROW, ("in2", "a")], "one Input"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_bad_graph_is_refused_by_name(tmp_path, case):
    nodes, edges, said = CASES[case]
    with pytest.raises(FormatError, match=f"(?s){said}"):
        exchange.load(write(tmp_path / "a.nir", {**ends(), **nodes}, edges), dt=1e-3)


def test_a_good_graph_is_not_refused(tmp_path):
    assert exchange.load(write(tmp_path / "a.nir", {**ends(), "a": lif()}, ROW), dt=1e-3)(torch.ones(3, 1, 2)).shape == (3, 1, 2)


def test_a_missing_dt_is_asked_for(tmp_path):
    with pytest.raises(FormatError, match="(?s)'a'.*Give dt"):
        exchange.load(write(tmp_path / "a.nir", {**ends(), "a": lif()}, ROW))


@pytest.mark.parametrize("edges", [3.5, np.ones((4, 2)), b"abc", [b"ab", b"cd"], [[[b"a", b"b"]]], {"ab": 1}, np.zeros((0, 2))])
def test_edges_that_are_no_pairs_of_names_are_refused(tmp_path, edges):
    path = write(tmp_path / "a.nir", {**ends(), "a": LINEAR}, ROW)
    with h5py.File(path, "a") as f:
        del f["node/edges"]
        if isinstance(edges, dict):
            f.create_group("node/edges")["ab"] = 1
        else:
            f["node/edges"] = edges
    with pytest.raises(FormatError, match="not pairs of names|no edge"):
        exchange.load(path)


@pytest.mark.parametrize("name", ["training", "type", "keys", "values", "a.b", "forward", "\u00e9", "_"])
def test_a_node_may_have_any_name(tmp_path, name):
    network = exchange.load(write(tmp_path / "a.nir", {**ends(), name: LINEAR, "a_b": LINEAR}, [("in", name), (name, "a_b"), ("a_b", "out")]))
    assert torch.equal(network(torch.eye(2)[:, None]), torch.eye(2)[:, None]) and set(network.values(torch.ones(1, 1, 2))) == {"in", name, "a_b", "out"}


def maps(**conv):
    values = {"weight": np.ones((2, 2, 1, 1)), "bias": np.zeros(2), "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1, **conv}
    return {"in": node("Input", shape=np.array([2, 4, 4])), "a": node("Conv2d", **values), "out": node("Output", shape=np.array([2, 4, 4]))}


@pytest.mark.parametrize(
    ("conv", "said"),
    [
        ({"padding": [10**9, 10**9]}, "not possible|too large"), ({"padding": [9000, 9000]}, "too large"), ({"stride": [0, 1]}, "not possible"),
        ({"groups": 0}, "does not fit"), ({"groups": 10**12}, "does not fit"), ({"dilation": [-1, 1]}, "not possible"),
        ({"padding": "diagonal"}, "diagonal|finite"), ({"weight": np.ones((2, 2, 9, 9))}, "larger than what enters"), ({"stride": [0.5, 1]}, "whole"),
    ],
)  # fmt: skip
def test_absurd_convolutions_are_refused(tmp_path, conv, said):
    with pytest.raises(FormatError, match=said):
        exchange.load(write(tmp_path / "a.nir", maps(**conv), ROW))


def test_arrays_without_end_are_refused_before_they_are_read(tmp_path):
    path = write(tmp_path / "a.nir", {**ends(), "a": node("Scale")}, ROW)
    with h5py.File(path, "a") as f:  # 800 GB that take no room in the file
        f["node/nodes/a"].create_dataset("scale", shape=(10**11,), dtype="f8", chunks=(1 << 16,), compression="gzip")
    assert path.stat().st_size < 1 << 20
    with pytest.raises(FormatError, match="too large"):
        exchange.load(path)


def test_what_unfolds_without_end_is_refused(tmp_path):
    """A chunk of 16 bytes whose stream holds 64 MB, a thousand times its own size: HDF5 would take all of it."""
    path = write(tmp_path / "a.nir", {**ends(), "a": node("Scale")}, ROW)
    stream = zlib.compress(bytes(1 << 26))
    with h5py.File(path, "a") as f:
        held = f["node/nodes/a"].create_dataset("scale", (2,), "f8", chunks=(2,), compression="gzip")
        held.id.write_direct_chunk((0,), stream)
    assert path.stat().st_size < 1 << 17
    with pytest.raises(FormatError, match="scale unfolds to more"):
        exchange.load(path)


@pytest.mark.parametrize("how", [{"compression": "gzip"}, {"compression": "gzip", "shuffle": True, "fletcher32": True}, {"compression": "lzf"}, {"chunks": (1, 2)}, {}])
def test_stored_as_others_may_store_it(tmp_path, how):
    w = np.round(np.random.default_rng(0).normal(size=(300, 2)) * 64) / 64
    path = write(tmp_path / "a.nir", {**ends(), "out": node("Output", shape=np.array([300])), "a": node("Linear")}, ROW)
    with h5py.File(path, "a") as f:
        f["node/nodes/a"].create_dataset("weight", data=w, **how)
    np.testing.assert_array_equal(exchange.load(path).layers["a"].weight.detach().numpy(), w.astype(np.float32))


@pytest.mark.parametrize("how", [{"scaleoffset": 3}, {"chunks": (1 << 28,), "maxshape": (None,)}])
def test_other_filters_and_chunks_are_refused(tmp_path, how):
    path = write(tmp_path / "a.nir", {**ends(), "a": node("Scale")}, ROW)
    with h5py.File(path, "a") as f:
        f["node/nodes/a"].create_dataset("scale", (2,), "f8", **how)
    with pytest.raises(FormatError, match="a filter that is not read|too large"):
        exchange.load(path)


@pytest.mark.parametrize(("at", "value", "said"), [(4, 2**31, "too large"), (4, 5, "not where it should be"), (8, 0, "not where|cut off"), (8, 2**60, "cut off"), (16, 77, "not where")])
def test_texts_that_are_not_there_are_refused(tmp_path, at, value, said):
    """The type of a node with another length, address or index: by itself HDF5 takes 2 GB for the first."""
    path = write(tmp_path / "a.nir", {**ends(), "a": LINEAR}, ROW)
    with h5py.File(path) as f:
        start = f["node/nodes/a/type"].id.get_offset()
    held = bytearray(path.read_bytes())
    place, size = {4: (start, 4), 8: (start + 4, 8), 16: (start + 12, 4)}[at]
    held[place : place + size] = value.to_bytes(size, "little")
    path.write_bytes(held)
    with pytest.raises(FormatError, match=said):
        exchange.load(path)


def test_a_heap_that_goes_round_is_refused(tmp_path):
    """Every text of it with a size of 0 bytes."""
    path = write(tmp_path / "a.nir", {**ends(), "a": LINEAR}, ROW)
    held = bytearray(path.read_bytes())
    heap = held.index(b"GCOL")
    here, end = heap + 16, heap + int.from_bytes(held[heap + 8 : heap + 16], "little")
    while here + 16 <= end and held[here : here + 2] != b"\0\0":
        size = int.from_bytes(held[here + 8 : here + 16], "little")
        held[here + 8 : here + 16] = bytes(8)
        here += 16 + -(-size // 8) * 8
    path.write_bytes(held)
    with pytest.raises(FormatError, match="not where it should be"):
        exchange.load(path)


def test_texts_are_those_that_h5py_reads(tmp_path):
    path = write(tmp_path / "a.nir", {**ends(), "\u00e9": node("Linear", weight=np.eye(2), metadata={"said": "\u00fc" * 40, "none": ""})}, [("in", "\u00e9"), ("\u00e9", "out")])
    found = tree(path, "node")
    with h5py.File(path) as f:
        assert found["nodes"]["\u00e9"]["metadata"]["said"] == f["node/nodes/\u00e9/metadata/said"][()] == ("\u00fc" * 40).encode()
        assert found["nodes"]["\u00e9"]["metadata"]["none"] == b""
        assert found["edges"].tolist() == f["node/edges"][()].tolist()


def test_a_user_block_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.nir", "w", userblock_size=512) as f:
        f.create_group("node")
    with pytest.raises(FormatError, match="begins with a block"):
        exchange.load(tmp_path / "a.nir")


def test_ways_without_end_are_refused():
    """Identities in diamonds: twice as many ways with every one, 2^200 in the end."""
    nodes, edges = {"in": node("Input", shape=[2]), "out": node("Output", shape=[2])}, []
    before = "in"
    for i in range(200):
        nodes |= {f"{k}{i}": node("Identity") for k in "abc"}
        edges += [(before, f"a{i}"), (before, f"b{i}"), (f"a{i}", f"c{i}"), (f"b{i}", f"c{i}")]
        before = f"c{i}"
    with pytest.raises(FormatError, match="too many: the graph is too large"):
        exchange.load({"nodes": nodes, "edges": [*edges, (before, "out")]})


@pytest.mark.parametrize("kind", ["loops", "delays"])
def test_what_is_made_is_bounded_in_all(kind):
    """Thirty loops of 4096 neurons with one number each, or ten delays of 100000 steps: a small file that would take gigabytes."""
    made = {"loops": node("IF", r=1.0, v_threshold=1.0), "delays": node("Delay", delay=100.0)}[kind]
    names = [f"n{i}" for i in range(30)]
    row = ["in", *names, "out"]
    edges = [*zip(row, row[1:], strict=False), *([(n, n) for n in names] if kind == "loops" else [])]
    nodes = {"in": node("Input", shape=[4096]), "out": node("Output", shape=[4096]), **{n: dict(made) for n in names}}
    with pytest.raises(FormatError, match="is too large.*[\\s\\S]*in all"):
        exchange.load({"nodes": nodes, "edges": edges}, dt=1e-3)


def test_a_step_that_is_no_number_is_refused():
    for dt in (True, "1e-3", -1.0, np.ones(2)):
        with pytest.raises(FormatError, match="time step"):
            exchange.load({"nodes": {**ends(), "a": lif()}, "edges": ROW, "metadata": {"dt": dt}})


@pytest.mark.parametrize("how", ["soft", "external", "raw", "circle"])
def test_links_are_refused(tmp_path, how):
    path = write(tmp_path / "a.nir", {**ends(), "a": node("Scale")}, ROW)
    with h5py.File(path, "a") as f:
        group = f["node/nodes/a"]
        if how == "soft":
            group["scale"] = h5py.SoftLink("/version")
        elif how == "external":
            group["scale"] = h5py.ExternalLink(str(tmp_path / "b.h5"), "/x")
        elif how == "raw":
            group.create_dataset("scale", (16,), "u1", external=[("/etc/hostname", 0, 16)])
        else:
            group["scale"] = f["node"]
    with pytest.raises(FormatError, match="link|outside|without end|too large"):
        exchange.load(path)


@pytest.mark.parametrize("link", [h5py.SoftLink("/other"), h5py.ExternalLink("b.nir", "/node"), h5py.SoftLink("/nowhere")])
def test_a_root_that_is_a_link_is_refused(tmp_path, link):
    for name in ("a.nir", "b.nir"):
        write(tmp_path / name, {**ends(), "a": LINEAR}, ROW)
    with h5py.File(tmp_path / "a.nir", "a") as f:
        f.move("node", "other")
        f["node"] = link
    with pytest.raises(FormatError, match="is a link|not a group"):
        exchange.load(tmp_path / "a.nir")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.nir").write_bytes(b"not HDF5")
    good = write(tmp_path / "b.nir", {**ends(), "a": LINEAR}, ROW).read_bytes()
    (tmp_path / "c.nir").write_bytes(good[: len(good) // 2])
    with h5py.File(tmp_path / "d.nir", "w") as f:
        f["x"] = 1
    for name in ("a.nir", "c.nir", "d.nir", "none.nir"):
        with pytest.raises(FormatError, match=name):
            exchange.load(tmp_path / name)
    with pytest.raises(FormatError, match="neither"):
        exchange.load(3)


def test_a_subgraph_may_hold_a_recurrent_layer():
    w = np.array([[0.0, 1.0], [-1.0, 0.0]])
    inner = nir.NIRGraph(
        {"input": nir.Input(np.array([2])), "lif": nir.LIF(tau=2e-3 * ONE, r=2 * ONE, v_leak=0 * ONE, v_threshold=ONE), "w": nir.Linear(w), "output": nir.Output(np.array([2]))},
        [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")],
    )
    graph = nir.NIRGraph({"in": nir.Input(np.array([2])), "r": inner, "out": nir.Output(np.array([2]))}, [("in", "r"), ("r", "out")], type_check=False)
    network = exchange.load(graph, dt=1e-3)
    x = torch.tensor([[1.5, 0.0], [0.0, 1.6], [0.0, 0.0], [0.9, 0.0]])[:, None]
    v, s, want = torch.zeros(2), torch.zeros(2), []
    for i in x[:, 0]:  # by hand
        v = 0.5 * v + (i + torch.tensor(w, dtype=torch.float32) @ s)
        s = (v > 1).float()
        v = v * (1 - s)
        want.append(s)
    assert torch.equal(network(x)[:, 0], torch.stack(want)) and torch.stack(want).any()


def test_shuffled_edges_and_nodes_do_not_matter(tmp_path):
    nodes = {"out": ends()["out"], "b": lif(), "a": LINEAR, "in": ends()["in"]}
    edges = [("b", "out"), ("in", "a"), ("a", "b")]
    x = 2 * torch.rand(9, 1, 2)
    first, second = (exchange.load(write(tmp_path / f"{i}.nir", dict(n), e), dt=1e-3)(x) for i, (n, e) in enumerate([(nodes, edges), (sorted(nodes.items()), edges[::-1])]))
    assert torch.equal(first, second)


def test_a_batch_in_the_input_shape_is_taken_out(tmp_path):
    nodes = {**ends(), "in": node("Input", shape=np.array([1, 2])), "a": LINEAR, "b": lif()}
    network = exchange.load(write(tmp_path / "a.nir", nodes, [("in", "a"), ("a", "b"), ("b", "out")]), dt=1e-3)
    assert network.input_shape == (2,) and len(network.notes) == 1


@pytest.mark.parametrize("back", ["itself", "scale"])
def test_a_loop_whose_matrix_would_be_huge_is_refused(tmp_path, back):
    many = np.ones(1 << 17)
    nodes = {**ends(len(many)), "a": node("IF", r=many, v_threshold=many)}
    edges = [*ROW, ("a", "a")]
    if back == "scale":
        nodes["b"], edges = node("Scale", scale=many), [*ROW, ("a", "b"), ("b", "a")]
    with pytest.raises(FormatError, match="loop is too large"):
        exchange.load(write(tmp_path / "a.nir", nodes, edges))


def test_edges_without_end_are_refused(tmp_path):
    with pytest.raises(FormatError, match="graph is too large"):
        exchange.load(write(tmp_path / "a.nir", {**ends(), "a": LINEAR}, ROW * 50_000))
