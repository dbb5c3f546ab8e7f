"""netx: read(write(network)) runs alike, what it cannot hold is named, lava-dl's own reader agrees, hostile files are refused."""

import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neuro.deploy import netx_file
from neuro.deploy.examples import even, events
from neuro.deploy.network import (
    LIF,
    Add,
    Attention,
    Cell,
    Conv,
    Dense,
    Flatten,
    Input,
    IntegerNetwork,
    MaxPool,
    Readout,
    RecurrentCell,
    Tokens,
    TokenSum,
)
from neuro.deploy.netx import compare, read_netx, write_netx
from neuro.deploy.netx_export import expanded, rounded
from neuro.deploy.netx_weights import held_by_lava_dl, problem
from neuro.deploy.twin import run_twin
from neuro.errors import FormatError, GraphError

HELPER = Path(__file__).with_name("netx_by_lava_dl.py")


def neuron(rng, name, source, channels):
    """Random leak and current; a bias that netx holds: any exponent, but multiples of 64."""
    exp = int(rng.integers(0, 8))
    bias = rng.integers(-9, 9, channels) << max(0, 6 - exp)
    return LIF(name, source, int(rng.choice([0, 1024, 3000, 4096])), int(rng.integers(20, 90)), bias, exp, int(rng.choice([4095, 3000, 500])))


def chain(rng, pool=False):
    """A random network that netx holds: groups, strides, dilation, padding that differ in both directions, odd sizes."""
    size, groups = (int(rng.integers(5, 9)), int(rng.integers(5, 9))), int(rng.choice([1, 2]))
    nodes = [
        Input("input", (2, *size), int(rng.integers(1, 4))),
        Conv("a.conv", "input", even(rng, (4, 2 // groups, 3, 2)), (1, int(rng.integers(1, 3))), (1, 2), (1, int(rng.integers(1, 3))), groups),
        neuron(rng, "a.lif", "a.conv", 4),
        *([MaxPool("pool", "a.lif", (3, 2), (2, 1), (1, 0))] if pool else []),
        Conv("b.conv", "pool" if pool else "a.lif", even(rng, (3, 4, 1, 2))), neuron(rng, "b.lif", "b.conv", 3), Flatten("flat", "b.lif"),
    ]
    width = IntegerNetwork([*nodes, Readout("r", "flat", np.zeros(_width(nodes), int))]).shapes["flat"][0]
    nodes += [Dense("c", "flat", even(rng, (5, width), 60)), neuron(rng, "c.lif", "c", 5),
              Dense("head", "c.lif", -rng.integers(1, 90, (3, 5))), Readout("scores", "head", rng.integers(-50, 50, 3), 0.25)]
    return IntegerNetwork(nodes, "chain")


def _width(nodes):
    shape = {}
    for n in nodes:
        shape[n.name] = n.out_shape(*(shape[s] for s in n.inputs))
    return shape["flat"][0]


def small(last=None, **lif):
    """Input, Dense, LIF, Dense, Readout."""
    return IntegerNetwork([Input("x", (4,)), Dense("a", "x", np.array([[2, -2, 4, 6], [-2, 2, 2, 8]])), LIF("n", "a", **{"dv": 1000, "vth": 5, **lif}),
                           Dense("head", "n", np.array([[2, -2], [4, 2]])), last or Readout("out", "head", np.array([1, -1]))])


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_written_is_read_and_runs_alike(tmp_path_factory, seed):
    rng, path = np.random.default_rng(seed), tmp_path_factory.mktemp("netx") / "network.net"
    network = chain(rng)
    report = write_netx(network, path)
    again, notes = read_netx(path)
    assert [n.name for n in again.nodes] == [n.name for n in network.nodes] and again.name == "chain" and not notes
    assert again.input.message_bits == network.input.message_bits and again.shapes == network.shapes
    x = events(rng, network, 6, 2, 0.4)
    ours, theirs = run_twin(network, x, record=True), run_twin(again, x, record=True)
    for name, spikes in ours.spikes.items():
        np.testing.assert_array_equal(spikes, theirs.spikes[name])
        np.testing.assert_array_equal(ours.membranes[name], theirs.membranes[name])
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    assert report.compared and report.most_steps > 6


def test_the_file_is_as_lava_dl_reads_it(tmp_path):
    """Contiguous layers, types as bytes of one element, shapes [C, H, W], iDecay one above du, PyTorch's order of weights."""
    network = chain(np.random.default_rng(1))
    write_netx(network, tmp_path / "n.net")
    with h5py.File(tmp_path / "n.net") as file:
        layers = [file[f"layer/{i}"] for i in range(len(file["layer"]))]
        assert [layer["type"][0] for layer in layers] == [b"input", b"conv", b"conv", b"flatten", b"dense", b"dense"]
        assert all(layer["type"].shape == (1,) for layer in layers)
        lif, conv = network["a.lif"], network["a.conv"]
        assert tuple(layers[0]["shape"]) == network.input.shape and tuple(layers[1]["shape"]) == network.shapes["a.lif"]
        assert layers[1]["neuron/iDecay"][()] == lif.du + 1 and layers[1]["neuron/vThMant"][()] == lif.vth
        np.testing.assert_array_equal(layers[1]["weight"], conv.weight)
        assert tuple(layers[1]["padding"]) == (1, 2)
        assert layers[5]["neuron/vDecay"][()] == 0 and layers[5]["neuron/vThMant"][()] == 131071


def test_a_readout_of_spikes_needs_no_layer(tmp_path):
    network = IntegerNetwork([*small().nodes[:3], Readout("out", "n", np.zeros(2, int))])
    assert write_netx(network, tmp_path / "n.net").layers == 2
    again, _ = read_netx(tmp_path / "n.net")
    assert isinstance(again.nodes[-1], Readout) and again.nodes[-1].input == "n"


def test_neurons_of_the_input(tmp_path):
    network = IntegerNetwork([Input("x", (4,), 8), LIF("first", "x", 123, 80), Dense("head", "first", np.array([[2, -2, 2, 2]])),
                              Readout("out", "head", np.array([1]))])
    report = write_netx(network, tmp_path / "n.net")
    assert "bias_mant" in str(report)
    assert compare(network, read_netx(tmp_path / "n.net")[0], 5)[1] > 0


def test_expanded_pools_give_the_same_spikes(tmp_path):
    rng = np.random.default_rng(5)
    network = chain(rng, pool=True)
    with pytest.raises(GraphError, match=r"MaxPool 'pool'(.|\n)*no pooling(.|\n)*--expand"):
        write_netx(network, tmp_path / "n.net")
    assert not list(tmp_path.iterdir())
    other, notes = expanded(network)
    x = events(rng, network, 6, 2, 0.4)
    ours, theirs = run_twin(network, x, record=True), run_twin(other, x, record=True)
    assert ours.spikes["a.lif"].any() and len(notes) == 1
    for name, spikes in ours.spikes.items():
        np.testing.assert_array_equal(spikes, theirs.spikes[name])
    np.testing.assert_array_equal(ours.acc, theirs.acc)
    assert "one step later" in str(write_netx(network, tmp_path / "n.net", expand=True))


def test_biases_are_moved_only_when_asked(tmp_path):
    network = small(bias_mant=np.array([5, 64]))
    with pytest.raises(GraphError, match=r"LIF 'n'(.|\n)*1 of 2 biases(.|\n)*--round-bias"):
        write_netx(network, tmp_path / "n.net")
    cell = IntegerNetwork([Cell("n", "a", 1000, 5, np.array([5, 64])) if n.name == "n" else n for n in network.nodes])
    assert rounded(cell)[0]["n"].bias_mant.tolist() == [0, 1] and write_netx(cell, tmp_path / "cell.net", round_bias=True).spikes
    other, notes = rounded(network)
    assert other["n"].bias(2).tolist() == [0, 64] and "1 of 2 biases moved" in notes[0]
    assert "moved" in str(write_netx(network, tmp_path / "n.net", round_bias=True))


MAP = [Input("x", (2, 3, 3))]
END = [Dense("head", "sum", np.array([[2, -2]])), Readout("out", "head", np.array([0]))]
REFUSED = {
    "attention": ([*MAP, Tokens("t", "x"), Attention("att", "t", "t", "t", 1), LIF("n", "att", 0, 9), TokenSum("sum", "n"), *END], "Tokens 't'"),
    "sum": ([Input("x", (2,)), Dense("a", "x", np.eye(2, dtype=int)), LIF("n", "a", 0, 1), Dense("b", "n", np.eye(2, dtype=int)), LIF("m", "b", 0, 1),
             Add("sum", ("n", "m")), *END], "Add 'sum'"),
    "branch": ([Input("x", (2,)), Dense("a", "x", np.eye(2, dtype=int)), LIF("n", "a", 0, 1), Dense("b", "x", np.eye(2, dtype=int)), LIF("sum", "b", 0, 1), *END], "Dense 'b'.*\n.*'x'"),
    "no weight": ([Input("x", (2,)), Dense("a", "x", np.zeros((2, 2), int)), LIF("sum", "a", 0, 1), *END], "Dense 'a'(.|\n)*without weights"),
    "lossy": ([Input("x", (2,)), Dense("a", "x", np.array([[0, -128], [-1, 0]])), LIF("sum", "a", 0, 1), *END], "Dense 'a'(.|\n)*where the matrix has -128"),
    "two neurons": ([Input("x", (2,)), Dense("a", "x", np.eye(2, dtype=int)), LIF("n", "a", 0, 1), LIF("sum", "n", 0, 1), *END], "LIF 'sum'"),
    "two synapses": ([Input("x", (2,)), Dense("a", "x", np.eye(2, dtype=int)), Dense("sum", "a", np.eye(2, dtype=int)), *END], "Dense 'sum'.*\n.*currents"),
    "large bias": ([Input("x", (2,)), Dense("a", "x", np.eye(2, dtype=int)), Readout("out", "a", np.array([0, 5000]))], "Readout 'out'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_netx_cannot_hold_is_named_with_a_remedy(tmp_path, case):
    nodes, said = REFUSED[case]
    with pytest.raises(GraphError, match=said) as error:
        write_netx(IntegerNetwork(nodes), tmp_path / "n.net")
    assert len(str(error.value).splitlines()) >= 3 and not list(tmp_path.iterdir())


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.int64, st.tuples(st.integers(1, 3), st.integers(1, 3)), elements=st.integers(-256, 255)))
def test_a_matrix_without_a_problem_survives(weight):
    held = held_by_lava_dl(weight)
    if problem(weight, 0):
        assert held is None or (held.weight != weight << held.shift).any()
    else:
        np.testing.assert_array_equal(held.weight >> held.shift, weight)


def test_known_traps_of_matrices():
    for lost in ([[0, 0]], [[0, -128]], [[-256, -1]], [[255, -2]], [[3, 254]]):
        assert bool(problem(np.array(lost), 1)) == (lost != [[3, 254]])
    assert "32 bits" in problem(np.array([[1, -1]]), 2**30)


def loop(rng, du=4095, **how):
    """Dense with feedback, then a Dense of spikes."""
    bias = rng.integers(-9, 9, 5) if du == 4095 else 0
    return IntegerNetwork([Input("x", (6,), 2), Dense("a", "x", even(rng, (5, 6), 60)),
                           RecurrentCell("n", "a", 1000, 40, bias, 6 if np.any(bias) else 0, du, weight=-2 * rng.integers(0, 40, (5, 5)), **how),
                           Dense("head", "n", even(rng, (3, 5))), Readout("out", "head", np.array([1, -1, 5]))])


@pytest.mark.parametrize("du", [4095, 2500])
def test_feedback_is_written_and_read(tmp_path, du):
    network = loop(np.random.default_rng(3), du)
    report = write_netx(network, tmp_path / "n.net")
    with h5py.File(tmp_path / "n.net") as file:
        assert file["layer/1/type"][0] == b"dense_rec"
    again, _ = read_netx(tmp_path / "n.net")
    np.testing.assert_array_equal(again["n"].weight, network["n"].weight)
    assert report.spikes and "does not clear feedback" in str(report)


def test_a_cell_that_is_a_lif_is_written_as_one(tmp_path):
    plain = small(bias_mant=np.array([2, -3]), bias_exp=6)
    cell = IntegerNetwork([Cell("n", "a", 1000, 5, np.array([2, -3]), 6) if n.name == "n" else n for n in plain.nodes])
    write_netx(cell, tmp_path / "n.net")
    again, _ = read_netx(tmp_path / "n.net")
    assert isinstance(again["n"], LIF) and again["n"].bias(2).tolist() == [128, -192]


@pytest.mark.parametrize("how, said", [(dict(reset="subtract"), "reset"), (dict(levels=3), "levels"), (dict(jump=5), "jump"),
                                       (dict(dh=7), ""), (dict(du=3000, bias_mant=np.array(1), bias_exp=6), "a bias through its current")])
def test_a_cell_beyond_lavas_lif_is_named(tmp_path, how, said):
    network = IntegerNetwork([Cell("n", "a", **{"dv": 1000, "vth": 5, **how}) if n.name == "n" else n for n in small().nodes])
    if not said:        # without a jump there is nothing that could decay
        assert write_netx(network, tmp_path / "n.net").spikes
        return
    with pytest.raises(GraphError, match=f"Cell 'n'(.|\n)*has {said} beyond it(.|\n)*neuro lava script"):
        write_netx(network, tmp_path / "n.net")


@pytest.fixture(scope="module")
def lava_dl():
    folder = os.environ.get("NEURO_LAVA_DL", "")
    if not (Path(folder) / "lava/lib/dl/netx/hdf5.py").is_file() or not folder:
        pytest.skip("no lava-dl: set NEURO_LAVA_DL to a folder with its lava/lib/dl/netx and h5py for Python 3.10")
    return folder


@pytest.mark.parametrize("seed", [0, 1, "loop"])
def test_lava_dl_runs_the_file_to_the_same_spikes_and_membranes(lava, lava_dl, tmp_path, seed):
    rng = np.random.default_rng(2 if seed == "loop" else seed)
    network, _ = expanded(chain(rng, pool=True)) if seed != "loop" else (loop(rng, 2500), [])
    write_netx(network, tmp_path / "n.net")
    x = events(rng, network, 9, 1, 0.4)
    np.save(tmp_path / "x.npy", x[:, 0])
    command = [lava, HELPER, lava_dl, tmp_path / "n.net", tmp_path / "x.npy", tmp_path / "out.npz", str(network.input.message_bits)]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, ours = np.load(tmp_path / "out.npz"), run_twin(network, x, record=True)
    for i, name in enumerate(ours.spikes):
        np.testing.assert_array_equal(found[f"spikes/{i}"][i + 1:i + 10], ours.spikes[name][:, 0])
        np.testing.assert_array_equal(found[f"membranes/{i}"][i + 1:i + 10], ours.membranes[name][:, 0])
    last = len(ours.spikes)
    np.testing.assert_array_equal(found[f"membranes/{last}"][last + 9], 64 * ours.acc[0])
    assert all(s.any() for s in ours.spikes.values())


def test_the_published_pilotnet_spikes_as_lava_dl_recorded_it(lava_dl):
    """lava-dl's own ground truth for one image, 16 steps: layer i spikes i steps later there."""
    folder = Path(lava_dl) / "tests/lava/lib/dl/netx/gts/pilotnet_lif"
    if not (folder / "network.net").is_file():
        pytest.skip("lava-dl's tests are not beside it")
    network, notes = read_netx(folder / "network.net")
    image = np.load(folder / "image.npy").transpose(2, 1, 0)
    result = run_twin(network, np.broadcast_to(image, (16, 1, *image.shape)).astype(np.int32), record=True)
    files = ["input", *(f"conv-{i}" for i in range(5)), *(f"fc-{i}" for i in range(3))]
    assert "40 * x + 36" in notes[0]
    for delay, (file, layer) in enumerate(zip(files, result.spikes, strict=True)):
        truth = np.load(folder / f"{file}.npy")
        truth = truth.transpose(3, 2, 1, 0) if truth.ndim == 4 else truth.T
        assert truth.any()
        np.testing.assert_array_equal(result.spikes[layer][:, 0], truth[delay:delay + 16], err_msg=file)


def damage(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def put(name, value, **how):
    def change(file):
        if name in file:
            del file[name]
        if value is not None:
            file.create_dataset(name, data=value, **how)
    return change


def link(name, target):
    def change(file):
        del file[name]
        file[name] = target
    return change


def absurd(file):
    """Declares an array of 2^40 numbers and holds none."""
    del file["layer/1/weight"]
    file.create_dataset("layer/1/weight", (2**20, 2**20), np.float32)


HOSTILE = {
    "no layers": (put("layer", None), "no group 'layer'"),
    "gap": (put("layer/1", None), "/layer/1 is missing"),
    "no type": (put("layer/1/type", None), "type is missing"),
    "strange type": (put("layer/1/type", np.array([b"magic"])), "layer 1 .*'magic'"),
    "long type": (put("layer/1/type", "x" * 999, dtype=h5py.string_dtype()), "a text of 999 bytes"),
    "average": (put("layer/1/type", np.array([b"average"])), "'average'"),
    "link out": (link("layer/1/weight", h5py.ExternalLink("/etc/passwd", "/")), "is a link"),
    "link round": (link("layer/1", h5py.SoftLink("/layer")), "is a link"),
    "absurd": (absurd, "0 bytes where"),
    "compressed": (put("layer/1/weight", np.zeros((2, 4)), compression="gzip"), "compressed"),
    "chunk": (put("layer/1/weight", np.zeros((2, 4)), chunks=(2**9, 2**9), maxshape=(None, None)), "chunked"),
    "text for weights": (put("layer/1/weight", np.array([b"a", b"b"])), "dtype"),
    "half weights": (put("layer/1/weight", np.full((2, 4), 0.5)), "not whole"),
    "nan": (put("layer/1/weight", np.full((2, 4), np.nan)), "not whole"),
    "odd weights": (put("layer/1/weight", np.array([[3, -2, 1, 1]] * 2)), "odd"),
    "huge weights": (put("layer/1/weight", np.full((2, 4), 1e30)), "32 bits"),
    "wrong width": (put("layer/1/weight", np.zeros((2, 5))), "input"),
    "wrong shape": (put("layer/1/shape", np.array([3])), "where its weights give"),
    "delay": (put("layer/1/delay", np.array([3.0])), "delays reach 3"),
    "no threshold": (put("layer/1/neuron/vThMant", None), "vThMant is missing"),
    "thresholds": (put("layer/1/neuron/vThMant", np.array([3, 4])), "holds 2 numbers"),
    "absurd threshold": (put("layer/1/neuron/vThMant", 10**6), "vth reaches"),
    "negative decay": (put("layer/1/neuron/iDecay", 0), "du reaches -1"),
    "no neuron": (put("layer/1/neuron", None), "no neurons"),
    "other neuron": (put("layer/1/neuron/type", np.bytes_("SDNN")), "'SDNN'"),
    "graded": (put("layer/1/neuron/messageBits", 8), "8 bits"),
    "two inputs": (put("layer/2/type", np.array([b"input"])), "only first"),
    "absurd input": (put("layer/0/shape", np.array([2**30, 2**30, 2**30])), "values a step"),
    "zero shape": (put("layer/0/shape", np.array([0])), "positive"),
    "document": (put("neuro/document", np.frombuffer(b"[1]", np.uint8)), "JSON"),
    "bias": (put("layer/1/bias", np.zeros(3)), "bias_mant"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(tmp_path, case):
    change, said = HOSTILE[case]
    path = tmp_path / "n.net"
    write_netx(small(), path)
    with pytest.raises(FormatError, match=said):
        read_netx(damage(path, change))


def test_a_string_that_claims_gigabytes_is_refused_before_it_is_read(tmp_path):
    write_netx(small(), tmp_path / "n.net")
    path = damage(tmp_path / "n.net", put("layer/1/type", "dense", dtype=h5py.string_dtype()))
    assert read_netx(path)[0].nodes
    with h5py.File(path) as file:
        offset = file["layer/1/type"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[offset:offset + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="a text of 2147483647 bytes"):
        read_netx(path)


def test_truncated_and_flipped_files_end_in_one_kind_of_error(tmp_path):
    whole = write_netx(small(), tmp_path / "n.net").path.read_bytes()
    rng, path = np.random.default_rng(0), tmp_path / "cut.net"
    for cut in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError):
            read_netx(path)
    read = 0
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            read_netx(path)
            read += 1
        except FormatError:
            pass
    assert 0 < read < 60


def test_no_file_and_no_hdf5(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_netx(tmp_path / "absent.net")
    (tmp_path / "text.net").write_text("hello")
    with pytest.raises(FormatError, match="not a readable netx file"):
        read_netx(tmp_path / "text.net")


def test_a_map_whose_size_the_file_leaves_out(tmp_path):
    network = chain(np.random.default_rng(2))
    write_netx(network, tmp_path / "n.net")
    layers, _ = netx_file.read(tmp_path / "n.net")
    netx_file.write(tmp_path / "bare.net", layers[1:], {})
    with pytest.raises(FormatError, match="input_shape"):
        read_netx(tmp_path / "bare.net")
    again, _ = read_netx(tmp_path / "bare.net", network.input.shape)
    assert [type(n) for n in again.nodes] == [type(n) for n in network.nodes]
