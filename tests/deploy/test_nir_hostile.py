"""NIR files that are damaged, foreign, circular or absurd: a sentence that names the node, never a crash, never much memory."""

import h5py
import nir
import numpy as np
import pytest
import torch

from neuro.deploy import nir as exchange
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
