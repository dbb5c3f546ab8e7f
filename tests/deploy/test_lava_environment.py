"""Finding Lava's interpreter, making its environment, and ending a run that hangs. Needs no Lava."""

import os
import sys
import time

import pytest

from neuro.deploy import lava_environment as environment
from neuro.deploy.conformance import Agreement, LayerAgreement
from neuro.deploy.lava import doctor, find_interpreter, install, run_lava, start, why_none
from neuro.errors import LavaError


def program(path, python="[3, 10, 2]", lava="0.10.0", numpy="1.26.4", status=0, loads=0):
    """A stand-in for an interpreter that answers the question of `ask`, and ends with status `loads` where it shall load Lava."""
    path.parent.mkdir(parents=True, exist_ok=True)
    answer = f'{{"python": {python}, "lava": "{lava}", "numpy": "{numpy}"}}'
    path.write_text(f"#!/bin/sh\ncase \"$3\" in *lava.magma*) echo 'No module named lava' >&2; exit {loads};; esac\necho '{answer}'\necho sorry >&2\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path, monkeypatch):
    """No interpreter anywhere."""
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv(environment.VARIABLE, raising=False)
    monkeypatch.setattr(environment.sys, "version_info", (3, 12, 0))
    return tmp_path


def test_none_is_found_and_the_doctor_says_what_to_do(home):
    assert find_interpreter() is None
    with pytest.raises(LavaError, match=r"not found(.|\n)*neuro lava install"):
        doctor()


def test_a_broken_environment_is_told_from_none(home):
    assert why_none() == "no Python 3.10 with Lava was found; get it: neuro lava install"
    ours = program(home / "data/neuro/lava/bin/python", lava="")
    (home / "data/neuro/lava" / environment.MARKER).write_text("{}")
    assert find_interpreter() is None and f"broken: {ours} has no lava-nc; make it anew" in why_none()
    ours.unlink()
    assert find_interpreter() is None and f"broken: {ours} does not start" in why_none()
    with pytest.raises(LavaError, match="does not start"):
        run_lava(None, None)


def test_the_variable_comes_first_and_is_not_passed_over(home, monkeypatch):
    ours = program(home / "data/neuro/lava/bin/python")
    assert find_interpreter() is None       # without its marker the environment was never finished
    (home / "data/neuro/lava" / environment.MARKER).write_text("{}")
    assert find_interpreter() == ours
    monkeypatch.setenv(environment.VARIABLE, str(program(home / "mine")))
    assert find_interpreter() == home / "mine" and str(home / "mine") in doctor()
    monkeypatch.setenv(environment.VARIABLE, str(home / "absent"))
    with pytest.raises(LavaError, match="does not start"):
        find_interpreter()
    with pytest.raises(LavaError, match=rf"cannot run Lava(.|\n)*absent does not start(.|\n)*unset it, and {ours} is taken"):
        doctor()    # nor by the doctor: what it says is what a run does


def test_an_environment_that_no_longer_loads_lava_is_broken_and_made_anew(home):
    """Its packages have their versions still; the files are gone, or do not fit."""
    ours = program(home / "data/neuro/lava/bin/python", loads=1)
    (home / "data/neuro/lava" / environment.MARKER).write_text("{}")
    assert environment.ask(ours).problem == "" and "does not load Lava: No module named lava" in environment.examine(ours).problem
    with pytest.raises(LavaError, match=rf"not found(.|\n)*{ours} does not load Lava: No module"):
        doctor()
    assert f"broken: {ours} does not load Lava" in why_none()
    said = []
    with pytest.raises(LavaError, match="No Python 3.10"):     # none to make it from here
        install(say=said.append)
    assert said == [f"{ours} does not load Lava: No module named lava. It is made anew."]


@pytest.mark.parametrize("answer, said", [(dict(python="[3, 11, 0]"), "3.11.0"), (dict(lava=""), "no lava-nc"),
                                          (dict(numpy="2.1.0"), "numpy 2.1.0"), (dict(status=3), "status 3, sorry")])
def test_each_interpreter_is_asked(home, answer, said):
    assert said in environment.ask(program(home / "python", **answer)).problem


def test_a_shim_that_fails_is_passed_over(home, monkeypatch):
    program(home / "shims/python3.10", status=127)
    monkeypatch.setenv("PATH", f"{home / 'shims'}:{home / 'bin'}")
    with pytest.raises(LavaError, match="shims/python3.10 does not start"):
        environment.find_base()
    program(home / ".pyenv/versions/3.10.13/bin/python", lava="")
    assert environment.find_base() == str(home / ".pyenv/versions/3.10.13/bin/python")
    elsewhere = program(home / "pyenv/versions/3.10.2/bin/python", lava="")
    monkeypatch.setenv("PYENV_ROOT", str(home / "pyenv"))
    assert environment.find_base() == str(elsewhere)


def test_a_failed_install_leaves_nothing(home):
    with pytest.raises(LavaError, match="No Python 3.10"):
        install(say=lambda line: None)
    program(home / "bin/python3.10", lava="")       # answers, but is no Python: makes no environment
    with pytest.raises(LavaError, match="lava|environment"):
        install(say=lambda line: None)
    assert not environment.environment().exists()


def test_install_is_done_once(home):
    python = program(home / "data/neuro/lava/bin/python")
    (home / "data/neuro/lava" / environment.MARKER).write_text("{}")
    assert install(say=lambda line: None) == python


HANG = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("pids", os.getpid(), child.pid, "end", flush=True)
time.sleep(600)
"""


def gone(pid):
    """Whether a process has ended: no entry, or one that only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks into /proc")
def test_a_run_that_hangs_is_ended_with_its_children(tmp_path):
    begin = time.monotonic()
    with pytest.raises(LavaError, match="after 2 s and was ended") as error:
        start([sys.executable, "-c", HANG], 2.0, tmp_path)  # it must have said its numbers by then
    leader, child = str(error.value).split("pids ")[1].split()[:2]
    assert time.monotonic() - begin < 12 and gone(child)
    assert not os.path.exists(f"/proc/{leader}")        # reaped, not only ended


def test_a_run_that_fails_says_why(tmp_path):
    with pytest.raises(LavaError, match=r"status 1(.|\n)*ZeroDivisionError"):
        start([sys.executable, "-c", "1 / 0"], 30.0, tmp_path)


def test_an_agreement_names_the_first_layer_that_differs():
    rows = [LayerAgreement("a", 10, 3, 0, 10, 0, None), LayerAgreement("b", 10, 3, 1, 10, 2, (4, 2, (1,)))]
    found = Agreement(tuple(rows))
    assert not found.exact and found.first_layer == "b" and "recording 4, step 2, index (1,)" in str(found)
    assert found.compared == 20 and found.mismatches == 1 and "part in b" in str(found)
