"""The command line: quick, lazy, and clear about what a user got wrong."""

import errno
import json
import os
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import neuro
from neuro import cli
from neuro.datasets import NMNIST, Frames, Sensor
from neuro.training import Preprocess, Run, save_model


def run_cli(capsys, *argv):
    """Exit code, output and errors of one command in this process."""
    try:
        cli.main([str(a) for a in argv])
        code = 0
    except SystemExit as stop:
        code = stop.code
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def packed(x, y, p, t):
    x, y, p, t = (np.asarray(a, np.int64) for a in (x, y, p, t))
    return np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tobytes()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five recordings of three classes, loose and in a zip."""
    folder = tmp_path_factory.mktemp("held_out")
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "more.zip", "w") as file:
        for i in range(5):
            n = 200
            events = packed(rng.integers(0, 34, n), rng.integers(0, 34, n), rng.integers(0, 2, n), np.sort(rng.integers(0, 300_000, n)))
            name = f"{i % 3}/{i:05d}.bin"
            if i < 2:
                file.writestr(f"part/{name}", events)
            else:
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(events)
    return folder


@pytest.fixture(scope="module")
def model():
    return neuro.models.small("spikformer_nmnist", dim=16, heads=2, image=34, depth=1)


@pytest.fixture
def trained(tmp_path, model):
    folder = tmp_path / "run"
    Run.create(folder, recipe="spikformer_nmnist", options={"data": "nowhere", "out": str(folder)}, seed=1)
    save_model(model, folder, classes=NMNIST.classes, preprocess=Preprocess(Frames(bins=3), Sensor(34, 34)))
    return folder


def test_help_is_quick_and_without_torch():
    code = "import sys; from neuro.cli import main; main(['--help']); assert not {'torch', 'numpy', 'jsonargparse'} & set(sys.modules)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0  # seconds of processor: others may use it too
    assert all(name in done.stdout for name in cli.COMMANDS)


def test_every_command_has_help(capsys):
    for name in cli.COMMANDS:
        code, out, _ = run_cli(capsys, name, "--help")
        assert code == 0 and "usage" in out


def test_models_lists_parameters(capsys):
    code, out, _ = run_cli(capsys, "models", "--match", "nmnist")
    assert code == 0 and "spikformer_nmnist" in out and "163,594" in out


def test_unknown_names_suggest_the_nearest(capsys):
    for argv, meant in ((["trian"], "train"), (["train", "spikfromer_nmnist"], "spikformer_nmnist"), (["lava", "docter"], "doctor")):
        code, _, err = run_cli(capsys, *argv)
        assert code == 2 and f"Did you mean {meant}" in err and "Traceback" not in err


def test_unknown_option_and_missing_one(capsys, trained):
    assert run_cli(capsys, "train", "spikformer_nmnist", "--epohcs", 3)[0] == 2
    code, _, err = run_cli(capsys, "evaluate", trained)
    assert code == 2 and "data" in err


def test_evaluate_writes_predictions_and_ends_with_the_accuracy(capsys, trained, data):
    code, out, _ = run_cli(capsys, "evaluate", trained, "--data", data)
    assert code == 0
    rows = [line.split(",") for line in (trained / f"predictions_{data.name}.csv").read_text().splitlines()]
    assert rows[0] == ["recording", "label", "given", "probability", "right"] and len(rows) == 6
    accuracy = sum(row[1] == row[2] for row in rows[1:]) / 5
    assert out.splitlines()[-1] == f"accuracy {accuracy:.4f}"
    name = next(row[0] for row in rows[1:] if not row[0].startswith("part"))
    file = data / name.split("/", 1)[1]
    code, out, _ = run_cli(capsys, "predict", trained, file, file)
    assert code == 0 and out.count(str(file)) == 2
    assert {line.split()[1] for line in out.splitlines()} == {next(row[2] for row in rows if row[0] == name)}


def test_truncated_recording_is_named_or_skipped(capsys, trained, tmp_path, data):
    folder = tmp_path / "data"
    (folder / "7").mkdir(parents=True)
    (folder / "7/00007.bin").write_bytes(b"\0" * 13)
    good = next(p for p in data.rglob("*.bin"))
    (folder / "7/00008.bin").write_bytes(good.read_bytes())
    code, _, err = run_cli(capsys, "evaluate", trained, "--data", folder)
    assert code == 2 and "7/00007.bin is damaged" in err and "3 bytes left" in err and "Traceback" not in err
    assert not list(trained.glob("predictions*"))
    code, out, _ = run_cli(capsys, "evaluate", trained, "--data", folder, "--skip-unreadable", "true")
    assert code == 0 and "1 recordings, 1 skipped" in out and "7/00007.bin" in out


def test_missing_folders(capsys, trained, tmp_path):
    for argv in (
        ["evaluate", trained, "--data", tmp_path / "none"],
        ["evaluate", tmp_path / "none", "--data", tmp_path],
        ["evaluate", trained, "--data", tmp_path / "run"],  # a folder without recordings
        ["train", "spikformer_nmnist", "--data", tmp_path / "none", "--out", tmp_path / "new"],
        ["train", "--resume", tmp_path / "none"],
        ["train", tmp_path / "none.py"],
        ["predict", trained, tmp_path / "none.bin"],
    ):
        code, _, err = run_cli(capsys, *argv)
        assert code == 2 and ("none" in err or "fits" in err), argv
        assert "Traceback" not in err


def test_a_failed_start_leaves_no_run(capsys, tmp_path):
    run_cli(capsys, "train", "spikformer_nmnist", "--data", tmp_path / "none", "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_weights_of_another_model(capsys, trained, data):
    other = neuro.models.small("spikformer_2_256", dim=24, heads=2, classes=10)
    save_model(other, trained / "other")
    os.replace(trained / "other/model.safetensors", trained / "model.safetensors")
    code, _, err = run_cli(capsys, "evaluate", trained, "--data", data)
    assert code == 2
    assert "spikformer_nmnist" in err and "spikformer_2_256" in err and "unexpected" in err and "instead of" in err


def test_newer_version_is_refused(capsys, trained, data):
    about = json.loads((trained / "model.json").read_text())
    (trained / "model.json").write_text(json.dumps({**about, "version": 99}))
    code, _, err = run_cli(capsys, "evaluate", trained, "--data", data)
    assert code == 2 and "version 99" in err and "Upgrade" in err


def test_full_disk(capsys, trained, data, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("neuro.files.os.fsync", full)
    code, _, err = run_cli(capsys, "evaluate", trained, "--data", data)
    assert code == 2 and "No space left" in err and "MB are free" in err
    assert not [p for p in trained.iterdir() if p.name.endswith(".part") or p.name.startswith("predictions")]


def test_a_recipe_runs_and_is_gone_on_with(capsys, tmp_path):
    folder = tmp_path / "run"
    code, out, err = run_cli(
        capsys, "train", "spikformer_motions", "--out", folder, "--epochs", 2, "--recordings", 16, "--workers", 0
    )
    assert code == 0 and err == "" and out.splitlines()[-1].startswith("trained 2 epochs, 2 steps")
    assert json.loads((folder / "recipe.json").read_text())["options"]["recordings"] == 16
    model = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    code, out, _ = run_cli(capsys, "train", "--resume", folder, "--workers", 1)
    assert code == 0 and (folder / "model.safetensors").read_bytes() == model
    code, _, err = run_cli(capsys, "train", "spikformer_motions", "--out", folder)
    assert code == 2 and "already" in err


def test_resume_refuses_other_options(capsys, trained):
    code, _, err = run_cli(capsys, "train", "--resume", trained, "--lr", 3)
    assert code == 2 and "--lr is settled" in err


def test_ctrl_c_is_130(capsys, monkeypatch):
    def stopped(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "dispatch", stopped)
    assert run_cli(capsys, "models")[0] == 130


def test_help_shows_hyphens_and_plain_types(capsys):
    code, out, _ = run_cli(capsys, "evaluate", "--help")
    assert code == 0 and "--skip-unreadable" in out and "--batch-size BATCH_SIZE" in out
    assert "<class" not in out and "type: Path" in out and "--batch_size" not in out


def test_a_refused_start_does_not_occupy_its_folder(capsys, tmp_path):
    how = ("train", "spikformer_motions", "--out", tmp_path / "run", "--recordings", 16, "--workers", 0, "--epochs", 1)
    code, _, err = run_cli(capsys, *how, "--lr", -1)
    assert code == 2 and "outside its range" in err
    assert run_cli(capsys, *how)[0] == 0


def test_models_that_do_not_match(capsys):
    code, _, err = run_cli(capsys, "models", "--match", "zzz")
    assert code == 2 and "'zzz' is not known" in err


def test_a_failure_of_the_system_is_one_line(capsys, monkeypatch):
    def full(argv):
        raise OSError(errno.ENOSPC, "No space left on device", "x.png")

    monkeypatch.setattr(cli, "dispatch", full)
    assert run_cli(capsys, "models") == (2, "", "neuro: x.png: no space left on device.\n")


def test_a_folder_of_train_and_test_gives_figures_of_both(capsys, trained, data, tmp_path):
    for part, numbers in (("train", (0, 1)), ("test", (2,))):
        (tmp_path / "both" / part / "0").mkdir(parents=True)
        for i in numbers:
            (tmp_path / "both" / part / "0" / f"{i}.bin").write_bytes(packed([1], [2], [0], [5]))
    code, out, _ = run_cli(capsys, "evaluate", trained, "--data", tmp_path / "both")
    lines = out.splitlines()
    assert code == 0 and lines[-1].startswith("accuracy ")
    assert lines[-4].startswith("test: 1 recordings") and lines[-3].startswith("train: 2 recordings")


def test_a_wrong_option_is_named_as_it_is_typed(capsys, tmp_path):
    """Not by a prefix, which may stand for another option tomorrow, and not as a key of the parser."""
    start = ("train", "spikformer_motions", "--out", tmp_path / "run")
    for words, says in (
        (("--epoch", 3), "--epoch 3; did you mean --epochs?"), (("--batch-siz=3",), "--batch-siz=3; did you mean --batch-size?"),
        (("--zzz", 3), "unrecognized arguments: --zzz 3"), (("--batch-size", "x"), "--batch-size: Expected an int. Got value: x"),
    ):  # fmt: skip
        code, _, err = run_cli(capsys, *start, *words)
        assert code == 2 and says in err and "Parser key" not in err and "batch_siz" not in err, err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("argv", "says"), [(["energy", "run"], "required: --data\n"), (["nir", "export", "run"], "required: --data, --dt\n"), (["predict", "run"], "required: files\n"), (["train", "series_text"], "required: --out\n")])
def test_arguments_that_are_missing_are_told_as_they_are_written(argv, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    assert stopped.value.code == 2 and says in capsys.readouterr().err


@pytest.mark.parametrize(("argv", "says"), [(["map", "x", "--chip", "loihi2", "--steps", "many"], "--steps: Expected an int. Got value: many\n"), (["lava", "run", "x", "--inputs", "y", "--probe", "nope"], "--probe: Expected a list[str]. Got value: nope\n")])
def test_a_value_of_another_type_is_told_in_one_line(argv, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    assert stopped.value.code == 2 and says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["evaluate", "RUN", "--data", "FILE"], "FILE is a file, not a folder."), (["energy", "RUN", "--data", "FILE"], "FILE is a file, not a folder."),
        (["train", "conv_mnist", "--data", "FILE", "--out", "NEW"], "FILE is a file, not a folder."), (["train", "conv_mnist", "--data", "NONE", "--out", "NEW"], "There is no folder NONE."),
        (["train", "series_braille", "--data", "FILE", "--out", "NEW"], "FILE is not an npz file."), (["predict", "RUN", "FOLDER"], "FOLDER is a folder, not a file."),
        (["predict", "FILE", "RUN"], "FILE is not a run."), (["evaluate", "NONE", "--data", "FOLDER"], "there is no run NONE."),
        (["nir", "check", "FOLDER"], "FOLDER is a folder, not a file."), (["lava", "read", "FOLDER"], "FOLDER is a folder, not a file."),
        (["lava", "script", "FOLDER"], "there is no network.npz in FOLDER.\n  neuro export"),
        (["data", "info", "FILE", "--damaged", "maybe"], "--damaged: Expected refuse or prefix. Got value: maybe"),
    ],
)  # fmt: skip
def test_a_file_where_a_folder_is_meant_and_the_other_way_round(argv, says, capsys, trained, tmp_path):
    places = {"RUN": trained, "FILE": tmp_path / "file.txt", "FOLDER": tmp_path / "empty", "NONE": tmp_path / "none", "NEW": tmp_path / "new"}
    places["FILE"].write_text("hello\n")
    places["FOLDER"].mkdir()
    code, out, err = run_cli(capsys, *(places.get(word, word) for word in argv))
    for word, path in places.items():
        says = says.replace(word, str(path))
    assert (code, out) == (2, "") and says in err and "Traceback" not in err and not places["NEW"].exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argv", [["--help"], ["data", "info", "nowhere"], ["data", "info", "--help"]])
def test_a_reader_that_goes_away_is_no_error(argv, unbuffered):
    """As behind `| head`: nothing about a broken pipe, from Python neither."""
    reader, writer = os.pipe()
    os.close(reader)
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run([sys.executable, "-m", "neuro.cli", *argv], stdout=writer, stderr=subprocess.PIPE, text=True, env=env)
    os.close(writer)
    refused = "nowhere" in argv
    assert done.returncode == (2 if refused else 0 if argv[-1] == "--help" and len(argv) > 1 and unbuffered else 1), done
    assert done.stderr == ("neuro: nowhere: no such file or directory.\n" if refused else "")


def test_a_pipe_that_breaks_elsewhere_is_told(capsys, monkeypatch):
    def broken(argv):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(cli, "dispatch", broken)
    code, _, err = run_cli(capsys, "models")
    assert code == 2 and "Broken pipe" in err


def test_only_training_is_told_how_to_go_on(capsys, monkeypatch):
    def stopped(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "dispatch", stopped)
    assert run_cli(capsys, "train", "x") == (130, "", "\nneuro: stopped. The run goes on with: neuro train --resume RUN\n")
    assert run_cli(capsys, "predict", "x") == (130, "", "\nneuro: stopped.\n")
