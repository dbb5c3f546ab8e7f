"""A recording's figures are those of its events, in pieces as whole, and `neuro data` prints and converts."""

from __future__ import annotations

import numpy as np
import pytest

from neuro import cli
from neuro.commands.data import pooled
from neuro.datasets import make_events, read_events, write_events
from neuro.datasets.events import Sensor
from neuro.datasets.reading import encode_events
from neuro.datasets.summary import summarize

SENSOR = Sensor(48, 64)


def some(count: int = 5000) -> np.ndarray:
    make = np.random.default_rng(1)
    t = 1000 + np.sort(make.integers(0, 300_000, count))
    x, y = make.integers(0, 64, count), make.integers(0, 48, count)
    x[::5], y[::5] = 7, 9  # a hot pixel
    return make_events(x, y, t, make.integers(0, 2, count) > 0)


@pytest.mark.parametrize("piece", [13, 100_000])
@pytest.mark.parametrize("format", ["dat", "text", "npy"])  # npy states no sensor
def test_figures_are_those_of_the_events(piece, format, monkeypatch):
    monkeypatch.setattr("neuro.datasets.summary.PIECE", piece)
    events = some()
    found = summarize(encode_events(events, SENSOR, format))
    assert (found.events, found.on) == (len(events), int(events["p"].sum()))
    assert (found.first_us, found.last_us) == (events["t"][0], events["t"][-1])
    counts = np.zeros((48, 64), int)
    np.add.at(counts, (events["y"], events["x"]), 1)
    assert np.array_equal(found.pixels, counts)
    windows = np.bincount((events["t"] - events["t"][0]) // 10_000)
    assert np.array_equal(found.windows, windows) and found.peak == windows.max() * 100
    assert [pixel[:2] for pixel in found.hot()] == [(7, 9)] and found.hot()[0][2] == counts[9, 7]


def test_far_apart_events_take_no_memory():
    events = make_events([0, 32766], [0, 32766], [0, 2**60], [True, False])
    found = summarize(encode_events(events, Sensor(32767, 32767), "npy"))
    assert found.pixels is None and found.windows is None and found.peak is None and found.hot() == []


def run_cli(capsys, *argv) -> tuple[int, str, str]:
    code = 0
    try:
        cli.main([str(a) for a in argv])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_info_prints_and_draws(tmp_path, capsys):
    write_events(tmp_path / "a.dat", some(), SENSOR)
    code, out, _ = run_cli(capsys, "data", "info", tmp_path / "a.dat", "--plot", tmp_path / "a.png")
    assert code == 0
    assert "a.dat: DAT" in out and "64 x 48" in out and "5,000" in out and "1 hot" in out and "(7, 9)" in out
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("shape", [(3, 4), (360, 361), (720, 1280)])
def test_the_picture_holds_every_event(shape):
    pixels = np.random.default_rng(0).integers(0, 5, shape)
    sums, block = pooled(pixels)
    assert max(sums.shape) <= 360 and sums.sum() == pixels.sum() and block == -(-max(shape) // 360)
    assert sums[0, 1] == pixels[:block, block : 2 * block].sum()


def test_a_recording_shorter_than_10_ms_has_no_busiest_10_ms(tmp_path, capsys):
    write_events(tmp_path / "a.dat", make_events([1, 2], [1, 2], [0, 9999], [True, True]), SENSOR)
    assert summarize(tmp_path / "a.dat").peak is None
    code, out, _ = run_cli(capsys, "data", "info", tmp_path / "a.dat")
    assert code == 0 and "busiest" not in out and "200 events/s" in out


def test_what_the_errors_advise_are_options(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", left=some(), right=some())
    for command in ("info", "view"):
        code, _, err = run_cli(capsys, "data", command, tmp_path / "a.npz")
        assert code == 2 and "left, right" in err and "--item" in err
        code, _, err = run_cli(capsys, "data", command, tmp_path / "a.npz", "--item", "middle")
        assert code == 2 and "recording 'middle' is not known" in err
    code, out, _ = run_cli(capsys, "data", "view", tmp_path / "a.npz", "--item", "right", "--out", tmp_path / "a.png")
    assert code == 0 and "5000 events" in out
    write_events(tmp_path / "a.dat", some(), SENSOR)
    code, _, err = run_cli(capsys, "data", "info", tmp_path / "a.dat", "--width", "10", "--height", "10")
    assert code == 2 and "larger" in err and "--damaged prefix" in err
    code, out, _ = run_cli(capsys, "data", "convert", tmp_path / "a.dat", tmp_path / "a.npy")
    assert code == 0 and "64 x 48, has no place in this format" in out
    code, out, _ = run_cli(capsys, "data", "convert", tmp_path / "a.dat", tmp_path / "a.raw")
    assert code == 0 and "no place" not in out


def test_info_counts_what_damage_drops(tmp_path, capsys):
    path = tmp_path / "a.dat"
    write_events(path, some(), SENSOR)
    path.write_bytes(path.read_bytes()[:-3])
    code, _, err = run_cli(capsys, "data", "info", path)
    assert code == 2 and "5 bytes left of an event of 8" in err and "Traceback" not in err
    code, out, _ = run_cli(capsys, "data", "info", path, "--damaged", "prefix")
    assert code == 0 and "dropped 5 bytes, 0 whole events" in out and "4,999" in out


@pytest.mark.parametrize("suffix", [".raw", ".evt3", ".es", ".h5", ".npz", ".csv", ".npy", ".aedat3"])
def test_convert_keeps_the_events(tmp_path, capsys, suffix):
    write_events(tmp_path / "a.dat", some(), SENSOR)
    code, out, _ = run_cli(capsys, "data", "convert", tmp_path / "a.dat", tmp_path / f"b{suffix}")
    assert code == 0 and "reads back the same" in out
    assert np.array_equal(read_events(tmp_path / f"b{suffix}").events, some())


def test_convert_refuses_with_a_sentence(tmp_path, capsys):
    write_events(tmp_path / "a.csv", make_events([1], [2], [2**40], [True]), SENSOR)
    for target, words in (
        ("b.dat", "does not fit"),
        ("b.xyz", "no format for this file"),
        ("a.csv", "the same file"),
        ("b.aedat", "none has this size"),
    ):
        code, _, err = run_cli(
            capsys,
            "data",
            "convert",
            tmp_path / "a.csv",
            tmp_path / target,
            *(["--start", "zero"] if target == "b.aedat" else []),
        )
        assert code == 2 and words in err, err
    code, _, err = run_cli(capsys, "data", "info", tmp_path / "missing.dat")
    assert code == 2 and "missing.dat" in err
    code, _, err = run_cli(capsys, "data", "info", tmp_path / "a.csv", "--width", "3")
    assert code == 2 and "needs --width and --height" in err
    code, out, _ = run_cli(capsys, "data", "convert", tmp_path / "a.csv", tmp_path / "b.dat", "--start", "zero")
    assert code == 0 and read_events(tmp_path / "b.dat").events["t"].tolist() == [0]
