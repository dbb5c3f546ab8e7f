"""Whatever happens inside Lava, the run ends, says why, and leaves no process and no shared memory behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from neuro.deploy.examples import even, events
from neuro.deploy.lava import run_lava
from neuro.deploy.network import LIF, Dense, Input, IntegerNetwork, Readout
from neuro.deploy.network_file import checksum, describe, write
from neuro.errors import LavaError

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks into /proc")
LONG = 200_000      # steps: minutes of Lava's time


@pytest.fixture(scope="module")
def network(lava):
    rng = np.random.default_rng(0)
    return IntegerNetwork([Input("x", (5,)), Dense("a", "x", even(rng, (4, 5))), LIF("n", "a", 1000, 40),
                           Dense("head", "n", even(rng, (2, 4))), Readout("out", "head", np.array([1, -1]))])


def stat(pid):
    """(parent, state) of a process; None once it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else (int(fields[1]), fields[0])


def descendants(of):
    """Process ids below one, parents first."""
    found, parents = [], {of}
    table = {int(p.name): stat(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()}
    while parents:
        parents = {pid for pid, s in table.items() if s and s[0] in parents}
        found += sorted(parents)
    return found


def maps(pid):
    """What a process has in its memory, one line each; nothing for one that is gone or belongs to another user."""
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def forgotten():
    """Shared memory that no process has mapped. What another Lava at work beside this test holds is none."""
    there = {p.name for p in Path("/dev/shm").glob("psm_*")}
    mapped = "".join(maps(p.name) for p in Path("/proc").iterdir() if p.name.isdigit())
    return {name for name in there if f"/dev/shm/{name}" not in mapped}


def wait_until(what, seconds=30.0):
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, "not in time"
        time.sleep(0.05)


def running(of, least=8, known=()):
    """The processes below one but those known, once so many are there; Lava starts here: main, manager, service, five of its own."""

    def seen():
        return [pid for pid in descendants(of) if pid not in known]

    wait_until(lambda: len(seen()) >= least, 120)
    time.sleep(1.0)
    return seen()


def test_a_killed_worker_ends_the_run(network, number=signal.SIGKILL):
    """Lava itself would wait for its message for ever."""
    before, found, known = forgotten(), [], descendants(os.getpid())

    def kill():
        found[:] = running(os.getpid(), known=known)
        os.kill(found[-1], number)

    thread = threading.Thread(target=kill)
    thread.start()
    x = np.zeros((LONG, 1, 5), np.int32)
    with pytest.raises(LavaError, match=f"ended by signal {number.name}"):
        run_lava(network, x, time_limit=150)
    thread.join()
    assert len(found) >= 8 and not [p for p in found if stat(p)]
    wait_until(lambda: not forgotten() - before, 10)


def test_a_run_over_its_time_is_ended_with_every_worker(network):
    before, found, known = forgotten(), [], descendants(os.getpid())
    thread = threading.Thread(target=lambda: found.extend(running(os.getpid(), 4, known)))
    thread.start()
    begin = time.monotonic()
    with pytest.raises(LavaError, match="after 8 s and was ended"):
        run_lava(network, np.zeros((LONG, 1, 5), np.int32), time_limit=8)
    thread.join()
    assert time.monotonic() - begin < 25 and len(found) >= 4 and not [p for p in found if stat(p)]
    wait_until(lambda: not forgotten() - before, 10)


def test_the_run_ends_with_whoever_started_it(network, tmp_path):
    """A killed Python cannot clean up; its Lava sees that it is gone."""
    network.save(tmp_path / "n.npz")
    code = f"import numpy as np; from neuro.deploy.lava import run_lava; run_lava({str(tmp_path / 'n.npz')!r}, np.zeros(({LONG}, 1, 5), np.int32))"
    starter = subprocess.Popen([sys.executable, "-c", code])
    found = running(starter.pid)
    starter.kill()
    starter.wait()
    wait_until(lambda: not [p for p in found if stat(p)], 15)
    assert len(found) >= 8


@pytest.mark.parametrize("change, said", [(dict(dv="fast"), "dv"), (dict(vth=None), "vth|NoneType")])
def test_what_goes_wrong_before_the_first_step_comes_back(network, tmp_path, change, said):
    document, arrays = describe(network)
    next(n for n in document["nodes"] if n["name"] == "n")["parameters"].update(change)
    document["checksum"] = checksum(document, arrays)
    with pytest.raises(LavaError, match=rf"Traceback(.|\n)*({said}|Error)"):
        run_lava(write(tmp_path / "n.npz", document, arrays), np.zeros((3, 1, 5), np.int32), time_limit=60)


def test_nothing_is_left_after_a_good_run(network):
    before, known = forgotten(), set(descendants(os.getpid()))
    rng = np.random.default_rng(1)
    assert run_lava(network, events(rng, network, 5, 2, 0.5)).steps == 12
    wait_until(lambda: not set(descendants(os.getpid())) - known and not forgotten() - before, 5)
