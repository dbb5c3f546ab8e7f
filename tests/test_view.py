"""`neuro data view`: what is drawn is what the file holds, and nothing is written where it is not."""

import base64
import io
import re

import numpy as np
import pytest

from neuro import cli
from neuro.commands.view import between, pooled
from neuro.datasets.events import EVENT, Sensor, make_events
from neuro.datasets.reading import write_events

Image = pytest.importorskip("PIL.Image")
BLUE, ORANGE = (0, 114, 178), (230, 159, 0)


def view(capsys, *argv):
    """Exit code, output and errors."""
    try:
        cli.main(["data", "view", *map(str, argv)])
        code = 0
    except SystemExit as stop:
        code = stop.code
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture
def recording(tmp_path):
    """400 ms on 30 x 20 pixels: ON in row 5, a pixel further each 10 ms; OFF at (25, 15) in the second half."""
    on, off = np.arange(0, 400_000, 1000), np.arange(200_000, 400_000, 1000)
    t = np.concatenate([on, off])
    order = np.argsort(t, kind="stable")
    p = np.repeat([True, False], [len(on), len(off)])
    events = make_events(np.where(p, t // 10_000 % 30, 25), np.where(p, 5, 15), t, p)[order]
    path = tmp_path / "a & b.dat"
    write_events(path, events, Sensor(20, 30))
    return path


def frames(data):
    """The pictures of a GIF and the seconds that each is shown."""
    picture, found, each = Image.open(io.BytesIO(data)), [], []
    for k in range(picture.n_frames):
        picture.seek(k)
        found.append(np.asarray(picture.convert("RGB")).astype(int))
        each.append(picture.info["duration"] / 1000)
    assert picture.info["loop"] == 0
    return np.stack(found), each


def test_the_animation_shows_each_event_where_and_when_it_was(capsys, recording, tmp_path):
    code, out, _ = view(capsys, recording, "--out", tmp_path / "a.gif", "--bins", 4, "--seconds", 2)
    assert code == 0 and "600 events" in out and "5.01 times slower" in out
    shown, each = frames((tmp_path / "a.gif").read_bytes())
    zoom = shown.shape[2] // 30
    assert shown.shape == (4, 20 * zoom, 30 * zoom, 3) and zoom > 1 and sum(each) == pytest.approx(2)
    middle = shown[:, zoom // 2 :: zoom, zoom // 2 :: zoom]
    for k in range(4):
        drawn = {(x, y) for y, x in np.argwhere((middle[k] < 250).any(-1)).tolist()}
        assert drawn == {(x % 30, 5) for x in range(10 * k, 10 * k + 10)} | ({(25, 15)} if k >= 2 else set())
        red, _, blue = middle[k, 5, [x % 30 for x in range(10 * k, 10 * k + 10)]].T
        assert (blue > red + 50).all()
        assert k < 2 or np.abs(middle[k, 15, 25] - ORANGE).max() < 25


def test_a_strip_is_a_png_named_after_the_file(capsys, recording, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = view(capsys, recording)
    assert code == 0 and "wrote a & b.dat.png" in out
    eight = np.asarray(Image.open(tmp_path / "a & b.dat.png").convert("RGB"))
    assert view(capsys, recording, "--bins", 16, "--out", "more.PNG")[0] == 0
    assert np.asarray(Image.open(tmp_path / "more.PNG")).shape[0] > eight.shape[0]
    for colour in (BLUE, ORANGE):
        assert (np.abs(eight.astype(int) - colour).max(-1) < 25).sum() > 100


def test_a_page_needs_nothing_else(capsys, recording, tmp_path):
    assert view(capsys, recording, "--out", tmp_path / "a.html")[0] == 0
    page = (tmp_path / "a.html").read_text()
    assert "a &amp; b.dat" in page and "a & b.dat" not in page and "600 events" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    (gif,) = re.findall(r"data:image/gif;base64,([^\"]+)", page)
    assert len(frames(base64.b64decode(gif))[0]) == 40
    assert "<svg" in page or "image/png" in page


def test_a_part_of_a_recording(capsys, recording, tmp_path):
    code, out, _ = view(capsys, recording, "--start-ms", 100, "--stop-ms", 150, "--out", tmp_path / "a.gif", "--bins", 1)
    assert code == 0 and "drawn: 50 of 600 events" in out


def test_between_is_half_open_and_counts_from_the_first_event():
    events = make_events(*np.zeros((2, 5), int), [1000, 2000, 3000, 3999, 4000], np.ones(5, bool))
    assert between(events, 1, 3)["t"].tolist() == [2000, 3000, 3999]
    assert len(between(events, None, None)) == 5 and len(between(events, 9, None)) == 0
    assert len(between(np.empty(0, EVENT), 1, 2)) == 0


def test_large_sensors_are_drawn_in_blocks_and_keep_their_events():
    rng = np.random.default_rng(0)
    events = make_events(rng.integers(1280, size=500), rng.integers(721, size=500), np.arange(500), np.ones(500, bool))
    before = events.copy()
    less, sensor, block = pooled(events, Sensor(721, 1280))
    assert (sensor, block) == (Sensor(241, 427), 3) and len(less) == 500
    assert less["x"].max() < 427 and less["y"].max() < 241 and np.array_equal(events, before)
    assert pooled(events, Sensor(512, 512))[2] == 1 and pooled(events, Sensor(513, 1))[2] == 2


@pytest.mark.parametrize("kind", ["png", "gif", "html"])
def test_no_events_and_one_event_are_drawn_as_well(capsys, tmp_path, kind):
    for n in (0, 1):
        path = tmp_path / f"{n}.dat"
        write_events(path, make_events([4] * n, [5] * n, [6] * n, [True] * n), Sensor(10, 12))
        code, _, err = view(capsys, path, "--out", tmp_path / f"{n}.{kind}", "--bins", 3)
        assert (code, err) == (0, "") and (tmp_path / f"{n}.{kind}").stat().st_size > 100


def test_what_cannot_be_drawn_is_said_and_nothing_is_written(capsys, recording, tmp_path):
    broken = tmp_path / "broken.bin"
    broken.write_bytes(b"\x01\x02\x00\x00\x05\x01\x02")
    for argv, words in (
        ((recording, "--out", "a.txt"), "suffix says what"),
        ((recording, "--bins", 0), "1 to 1000 bins"),
        ((recording, "--seconds", 0), "3600 seconds"),
        ((recording, "--seconds", "nan"), "Expected a float"),
        ((recording, "--start-ms", 5, "--stop-ms", 5), "nothing lies between"),
        ((recording, "--width", 9), "width and height"),
        ((recording, "--width", 9, "--height", 9), "outside the sensor"),
        ((tmp_path / "none.dat",), "no such file"),
        ((broken,), "is damaged"),
    ):
        out = () if "--out" in argv else ("--out", tmp_path / "wrong.gif")
        code, _, err = view(capsys, *argv, *out)
        assert code == 2 and words in err, argv
    large = tmp_path / "large.dat"
    write_events(large, make_events([0], [0], [0], [True]), Sensor(500, 500))
    code, _, err = view(capsys, large, "--out", tmp_path / "wrong.gif", "--bins", 41)
    assert code == 2 and "fewer --bins" in err
    assert not list(tmp_path.glob("wrong*")) and not list(tmp_path.glob("*.txt"))
    assert view(capsys, broken, "--damaged", "prefix", "--out", tmp_path / "part.png")[0] == 0
