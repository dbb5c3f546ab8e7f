"""Temporary folders of processes that were killed are removed by the next one, those of living ones never."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from neuro.scratch import Scratch, remove_leftovers

HOLDS = """
import sys, time
from neuro.scratch import Scratch
folder = Scratch("neuro-try")
(folder.path / "kept.txt").write_text("x")
print(folder.path, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A temporary folder of this test alone, for the processes that it starts too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    tempfile.tempdir = None


def holder():
    """A process that holds a folder, and the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True)
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_killed_process_left_is_removed_at_the_next_start_and_not_before(number, temporary):
    process, folder = holder()
    other, living = holder()
    try:
        mine = Scratch("neuro-try")
        assert folder.is_dir() and living.is_dir() and mine.path.parent == temporary
        process.send_signal(number)
        process.wait()
        assert folder.is_dir()
        again = Scratch("neuro-try")
        assert not folder.exists() and (living / "kept.txt").exists() and mine.path.is_dir() and again.path.is_dir()
        mine.close(), again.close(), again.close()
        assert sorted(temporary.iterdir()) == [living]
    finally:
        process.kill(), other.kill()
        process.communicate(), other.communicate()


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_folders_of_this_name_whose_process_is_dead_are_removed(temporary):
    gone = dead_pid()
    names = {f"neuro-try-{gone}-abc": False, f"neuro-try-{os.getpid()}-abc": True, f"neuro-try-{gone}": True, "neuro-try-abcdefgh": True, f"neuro-other-{gone}-abc": True,
             f"neuro-try-{gone}-a-b": True, "neuro-try-99999999999999999999-abc": True}  # fmt: skip
    for name in names:
        (temporary / name).mkdir()
    assert [path.name for path in remove_leftovers("neuro-try")] == [name for name, stays in names.items() if not stays]
    assert {name: (temporary / name).is_dir() for name in names} == names


def test_a_folder_that_is_locked_stays_whatever_its_number_says(temporary):
    """As in a container, whose processes have numbers that others do not see."""
    folder = temporary / f"neuro-try-{dead_pid()}-abc"
    folder.mkdir()
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert remove_leftovers("neuro-try") == [] and folder.is_dir()
    os.close(held)
    assert remove_leftovers("neuro-try") == [folder] and not folder.exists()


def test_a_link_to_elsewhere_and_a_file_are_left_alone(temporary):
    gone, elsewhere = dead_pid(), temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "data.txt").write_text("x")
    (temporary / f"neuro-try-{gone}-link").symlink_to(elsewhere)
    (temporary / f"neuro-try-{gone}-file").write_text("x")
    assert remove_leftovers("neuro-try") == [] and (elsewhere / "data.txt").exists() and (temporary / f"neuro-try-{gone}-file").exists()
