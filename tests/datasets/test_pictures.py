"""Frames from files: what was drawn comes back, in order, at its time."""

import numpy as np
import pytest

from neuro.datasets.pictures import read_frames
from neuro.datasets.video import VideoCamera
from neuro.errors import FormatError, ParameterError

Image = pytest.importorskip("PIL.Image")
FILM = (np.add.outer(np.arange(12) * 11, np.add.outer(np.arange(6) * 9, np.arange(8) * 7)) % 256).astype(np.uint8)


def test_an_animation_states_its_times(tmp_path):
    pictures = [Image.fromarray(f) for f in FILM]
    durations = [20 + 10 * (k % 3) for k in range(12)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    times, frames = zip(*read_frames(tmp_path / "a.gif"), strict=True)
    assert np.array_equal(times, np.cumsum([0, *durations[:-1]]) * 1000.0)
    assert np.allclose(frames, FILM / 255, atol=1e-9)
    times, _ = zip(*read_frames(tmp_path / "a.gif", fps=50), strict=True)
    assert np.array_equal(times, np.arange(12) * 20_000)


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff"])
def test_a_folder_comes_in_the_order_of_its_numbers(tmp_path, kind):
    for k, frame in enumerate(FILM):
        Image.fromarray(frame).save(tmp_path / f"frame{k}.{kind}")
    (tmp_path / "notes.txt").write_text("no picture")
    times, frames = zip(*read_frames(tmp_path, fps=1000), strict=True)
    assert np.allclose(frames, FILM / 255, atol=1e-9)
    assert np.allclose(times, np.arange(12) * 1000.0)


def test_colours_and_16_bits(tmp_path):
    green = np.zeros((4, 5, 3), np.uint8)
    green[..., 1] = 255
    Image.fromarray(green).save(tmp_path / "0.png")
    Image.fromarray(np.full((4, 5), 0x8000, np.uint16)).save(tmp_path / "1.png")
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "2.png")
    frames = [frame for _, frame in read_frames(tmp_path, fps=1)]
    assert np.allclose(frames[0], 0.7152) and np.allclose(frames[1], 0x8000 / 0xFFFF) and frames[2].tolist() == [[1.0, 0.0]]


def test_a_film_goes_before_a_camera(tmp_path):
    np.save(tmp_path / "film.npy", FILM)
    camera = VideoCamera(mismatch=0.0)
    times, frames = zip(*read_frames(tmp_path / "film.npy", fps=200), strict=True)
    events = camera.record(frames, times, 0)
    assert len(events) > 100
    assert np.array_equal(events, camera.record(FILM, np.arange(12) * 5000, 0))


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged files
@pytest.mark.parametrize("kind", ["gif", "png", "tiff"])
def test_damage_is_a_format_error_or_other_frames_but_never_a_crash(tmp_path, kind):
    rng, path, pictures = np.random.default_rng(0), tmp_path / f"a.{kind}", [Image.fromarray(f) for f in FILM[:4]]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=20)
    whole, refused = path.read_bytes(), 0
    for turn in range(150):
        data = bytearray(whole)
        if turn % 2:
            data = data[: rng.integers(len(data))]
        else:
            data[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(bytes(data))
        try:
            assert len(list(read_frames(path, fps=10))) <= 8
        except FormatError:
            refused += 1
    assert refused > 50


def test_what_is_no_film_is_refused(tmp_path):
    np.save(tmp_path / "flat.npy", np.zeros((3, 4)))
    (tmp_path / "text.gif").write_text("no picture")
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty").mkdir()
    Image.fromarray(FILM[0]).save(tmp_path / "still.png")
    good = tmp_path / "film.npy"
    np.save(good, FILM)
    pictures = [Image.fromarray(f) for f in FILM]
    (tmp_path / "vast").mkdir()
    Image.new("1", (1 << 12, (1 << 11) + 1)).save(tmp_path / "vast/0.png")
    pictures[0].save(tmp_path / "cut.gif", save_all=True, append_images=pictures[1:], duration=20)
    (tmp_path / "cut.gif").write_bytes((tmp_path / "cut.gif").read_bytes()[:400])
    for path, fps, error, words in (
        (good, None, ParameterError, "Give fps"),
        (good, 0, ParameterError, "fps=0"),
        (good, np.nan, ParameterError, "fps=nan"),
        (tmp_path / "flat.npy", 1, FormatError, r"\[3, 4\]"),
        (tmp_path / "text.npy", 1, FormatError, "not an .npy file"),
        (tmp_path / "text.gif", 1, FormatError, "no picture"),
        (tmp_path / "still.png", None, ParameterError, "how long"),
        (tmp_path / "empty", 1, FormatError, "holds no pictures"),
        (tmp_path / "vast", 1, FormatError, "4096 x 2049"),
        (tmp_path / "none.gif", 1, FileNotFoundError, "none.gif"),
        (tmp_path / "cut.gif", None, FormatError, "cut off"),
    ):
        with pytest.raises(error, match=words):
            list(read_frames(path, fps))
