"""Spoken words by list, and spikes of an auditory sensor: made files read back, and the real ones counted."""

import io
import json
import os
import wave
from pathlib import Path

import numpy as np
import pytest

from neuro.datasets.nas import read_nas
from neuro.datasets.speech import SpeechCommands
from neuro.errors import FormatError, ParameterError, UnknownName

DATA = Path(os.environ.get("NEURO_DATA", "/nowhere"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="NEURO_DATA names no folder")


def wav(x, rate=16_000):
    file = io.BytesIO()
    with wave.open(file, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(rate)
        made.writeframes((np.asarray(x) * 32768).astype("<i2").tobytes())
    return file.getvalue()


def test_words_are_split_by_the_lists(tmp_path):
    names = ["yes/0a_nohash_0.wav", "yes/0b_nohash_0.wav", "zero/0c_nohash_1.wav", "down/0d_nohash_0.wav"]
    for k, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(wav(np.full(100, k / 8)))
    (tmp_path / "_background_noise_").mkdir()
    (tmp_path / "_background_noise_/tap.wav").write_bytes(wav(np.zeros(9)))
    assert len(SpeechCommands(tmp_path)) == 4
    with pytest.raises(FileNotFoundError, match="validation_list.txt"):
        SpeechCommands(tmp_path, "test")
    (tmp_path / "validation_list.txt").write_text(names[1] + "\n")
    (tmp_path / "testing_list.txt").write_text(names[2] + "\n")
    parts = {split: SpeechCommands(tmp_path, split) for split in ("train", "valid", "test")}
    assert [sorted(p.x.names) for p in parts.values()] == [sorted([names[0], names[3]]), [names[1]], [names[2]]]
    (test,) = parts["test"]
    assert SpeechCommands.classes[test.label] == "zero" and (test.x == 0.25).all() and parts["test"].speakers == ("0c",)
    (tmp_path / names[2]).write_bytes(wav(np.zeros(9), rate=8000))
    with pytest.raises(FormatError, match="16000 Hz"):
        parts["test"][0]
    (tmp_path / "testing_list.txt").write_text(names[1])
    with pytest.raises(FormatError, match="both parts"):
        SpeechCommands(tmp_path, "train")
    with pytest.raises(UnknownName):
        SpeechCommands(tmp_path, "dev")
    a, b = SpeechCommands.simulated(8, 1), SpeechCommands.simulated(8, 1)
    assert a[3].x.shape == (16_000,) and np.array_equal(a[3].x, b[3].x) and len(set(SpeechCommands.classes)) == 35


def words(address, t, size):
    return np.array(list(zip(address, t, strict=True)), [("a", f">u{size}"), ("t", ">u4")]).tobytes()


@pytest.mark.parametrize("size, stereo, on_off", [(2, False, True), (2, True, False), (4, True, True)])
def test_spikes_of_ears_come_back(size, stereo, on_off):
    rng = np.random.default_rng(0)
    channel, ear, off = rng.integers(0, 32, 200), rng.integers(0, 1 + stereo, 200), rng.integers(0, 1 + on_off, 200)
    t = np.sort(rng.integers(0, 10**6, 200))
    address = (ear * 32 + channel) * (1 + on_off) + off
    got = read_nas(words(address, t, size), 32, stereo=stereo, on_off=on_off, address_bytes=size)
    assert (got.sensor.height, got.sensor.width) == (1 + stereo, 32)
    assert np.array_equal(got.events["x"], channel) and np.array_equal(got.events["y"], ear) and np.array_equal(got.events["p"], off == 0)
    assert np.abs(got.events["t"] - t * 0.2).max() <= 0.5
    with pytest.raises(FormatError, match="outside the channels"):
        read_nas(words(address, t, size), 16, stereo=stereo, on_off=on_off, address_bytes=size)


def test_what_is_no_such_recording_is_refused(tmp_path):
    with pytest.raises(FormatError, match="whole number"):
        read_nas(bytes(7), 32)
    with pytest.raises(FormatError, match="backwards"):
        read_nas(words([0, 0], [9, 1], 2), 32, tick_us=1.0)
    for wrong in ({"channels": 0}, {"channels": 8, "address_bytes": 3}, {"channels": 8, "tick_us": 0.0}):
        with pytest.raises(ParameterError):
            read_nas(b"", **wrong)
    with pytest.raises(FileNotFoundError):
        read_nas(tmp_path / "none", 32)
    assert len(read_nas(b"", 32).events) == 0


@real
def test_real_spikes_of_ears():
    for path in sorted((DATA / "nas_audio_aer").glob("*.aedat")):
        stated = json.loads(path.with_name(path.name + ".json").read_text())
        got = read_nas(path, stated["channels"], stereo=stated["stereo"], tick_us=stated["timestamp_tick_us"])
        assert len(got.events) == stated["events"]["count"]
        address = 2 * got.events["x"].astype(int) + ~got.events["p"]
        assert address.sum() == stated["events"]["sum_address"] and got.events["t"][0] == round(stated["events"]["first"]["t"] * 0.2)
