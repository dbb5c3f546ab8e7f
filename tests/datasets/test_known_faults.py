"""Faults of other tools that have no better place: two data sets under one name, caches of floats, packets taken for events."""

import struct
import zipfile

import numpy as np
import pytest

from neuro.datasets import SHD, SSC, DVSGesture, Frames, Sensor, cache_frames, make_events, read_events
from neuro.datasets.events import Recording
from neuro.datasets.gesture import DVSGestureStreams
from neuro.datasets.loading import EventFrames


def test_d36_each_set_of_spikes_has_its_own_files_and_checksums():
    shd_urls, shd_sums, ssc_urls, ssc_sums = ({getattr(r, what) for r in kind.remotes} for kind in (SHD, SSC) for what in ("url", "md5"))
    assert not shd_urls & ssc_urls and not shd_sums & ssc_sums
    assert all("shd" in url for url in shd_urls) and all("ssc" in url for url in ssc_urls)
    assert len(SSC.classes) == 35 and len(SHD.classes) == 20


def test_d39_a_cache_of_counts_is_bytes_that_are_mapped_not_floats_that_are_unpacked(tmp_path):
    rng, sensor = np.random.default_rng(0), Sensor(128, 128)
    n = 3000
    recordings = [
        Recording(make_events(rng.integers(0, 128, n), rng.integers(0, 128, n), np.sort(rng.integers(0, 10**5, n)), rng.integers(0, 2, n)), sensor, k, str(k))
        for k in range(4)
    ]
    frames = EventFrames(recordings, Frames(bins=16, duration_us=10**5, origin_us=0))
    cached = cache_frames(frames, tmp_path, "four")
    (file,) = tmp_path.glob("*.cache")
    assert file.stat().st_size <= 4 * 16 * 2 * 128 * 128 * 1.05  # a byte a count; as float64 it would be eight
    assert all(np.array_equal(cached[k].x, frames[k].x) and cached[k].label == k for k in range(4))


def test_d40_the_two_releases_of_the_gestures_have_names_and_numbers_of_their_own():
    assert DVSGesture.recordings == {"train": 1077, "test": 264}
    assert DVSGestureStreams.recordings == {"train": 1176, "test": 288}
    assert not {r.file for r in DVSGesture.remotes} & {r.file for r in DVSGestureStreams.remotes}


def packet(kind: int, overflow: int, rows: list[tuple[int, int]]) -> bytes:
    """A packet of AEDAT 3.1: type, source, bytes of an event, place of its time, overflows, and three numbers of events."""
    valid = sum(data & 1 for data, _ in rows)
    return struct.pack("<hhiiiiii", kind, 1, 8, 4, overflow, len(rows), len(rows), valid) + b"".join(struct.pack("<Ii", *row) for row in rows)


def test_d55_types_overflows_and_valid_bits_of_aedat_3_count(tmp_path):
    def event(x, y, p, valid=1):
        return x << 17 | y << 2 | p << 1 | valid

    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    packets = [
        packet(1, 0, [(event(3, 5, 1), 10), (event(4, 5, 0, valid=0), 11), (event(5, 6, 0), 12)]),  # the second one is void
        packet(0, 0, [(1 | 7 << 1, 20)]),  # special events
        packet(1, 1, [(event(7, 9, 1), 3)]),  # times have overflown once: 2^31 more
    ]
    (tmp_path / "a.aedat").write_bytes(head + b"".join(packets))
    events = read_events(tmp_path / "a.aedat", sensor=Sensor(128, 128)).events
    assert events.tolist() == make_events([3, 5, 7], [5, 6, 9], [10, 12, 2**31 + 3], [1, 0, 1]).tolist()


def test_d55_aedat_4_holds_as_many_events_as_it_does(real_data):
    assert len(read_events(real_data / "event_formats" / "aedat4" / "sample.aedat4").events) == 111_954


def test_d56_a_recording_whose_clock_has_passed_2_to_the_31_has_no_negative_times(real_data):
    with zipfile.ZipFile(real_data / "dvs128_objects" / "dvs128_objects.zip") as archive:
        name = next(n for n in archive.namelist() if "Mouse_1" in n)
        events = read_events(archive.read(name), sensor=Sensor(128, 128)).events
    assert events["t"].min() > 2**31 and (np.diff(events["t"]) >= 0).all()


def test_d54_external_triggers_of_evt_3_are_no_events(tmp_path):
    words = [0x0000 | 1, 0x8000 | 4, 0x6000 | 10, 0xA001, 0x2000 | 1, 0xA100, 0x2800 | 2]
    (tmp_path / "a.raw").write_bytes(b"% evt 3.0\n% geometry 640x480\n% end\n" + np.array(words, "<u2").tobytes())
    assert read_events(tmp_path / "a.raw").events.tolist() == make_events([1, 2], [1, 1], [4 * 4096 + 10] * 2, [0, 1]).tolist()


@pytest.mark.parametrize("bins", [1, 10])
def test_d37_fewer_events_than_frames_and_none_at_all_are_fine(bins):
    for n in (0, 1, 3):
        x = Frames(bins=bins)(make_events([1] * n, [1] * n, list(range(n)), [1] * n), Sensor(4, 4))
        assert x.shape == (bins, 2, 4, 4) and x.sum() == n
