"""Work shared out among processes: every result comes once, errors come out, and Ctrl-C ends all of them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from neuro.errors import NeuroError, ParameterError
from neuro.training.jobs import side_by_side

SLEEP = """
import time
from neuro.training.jobs import side_by_side
if __name__ == "__main__":
    print("go", flush=True)
    try:
        for _ in side_by_side([(pow, (2, 2)), *[(time.sleep, (60,))] * 3], jobs=2):
            print("first", flush=True)
    except KeyboardInterrupt:
        print("stopped")
"""


def test_every_result_comes_once():
    tasks = [(pow, (i, 2)) for i in range(9)]
    assert sorted(side_by_side(tasks, 3)) == list(side_by_side(tasks, 1)) == [(i, i * i) for i in range(9)]
    assert list(side_by_side([], 2)) == []
    with pytest.raises(ParameterError, match="jobs=0"):
        list(side_by_side(tasks, 0))


def test_an_error_in_a_process_comes_out():
    with pytest.raises(ParameterError, match="cannot be sent(.|\n)*lambda"):
        list(side_by_side([(lambda: 1, ())] * 2, jobs=2))
    with pytest.raises(NeuroError, match="ZeroDivisionError"):
        list(side_by_side([(divmod, (1, 0)), (pow, (2, 2))], jobs=2))


def test_a_process_that_dies_is_noticed():
    with pytest.raises(NeuroError, match="ended without a result"):
        list(side_by_side([(os._exit, (3,)), (time.sleep, (60,))], jobs=2))


@pytest.mark.parametrize(("moment", "all_of_them"), [("import", True), ("work", True), ("work", False)])
def test_ctrl_c_ends_all_of_them_without_a_word(tmp_path, moment, all_of_them):
    """While the others import, or while they work; sent to the whole group, or to the first alone."""
    script = tmp_path / "sleep.py"
    script.write_text(SLEEP)
    first = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert first.stdout.readline() == "go\n"
    if moment == "work":
        assert first.stdout.readline() == "first\n"
    else:
        time.sleep(0.05)
    (os.killpg if all_of_them else os.kill)(first.pid, signal.SIGINT)
    out, errors = first.communicate(timeout=20)
    assert (out.splitlines()[-1], errors, first.returncode) == ("stopped", "", 0)
    until = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(first.pid, 0)
            time.sleep(0.01)
