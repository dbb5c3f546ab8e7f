"""Nothing is chosen by the recordings that test it, and what is chosen does not depend on how the work is shared out."""

import json
from functools import partial

import numpy as np
import pytest
from piecework import work

from neuro import cli
from neuro.datasets import make_events
from neuro.datasets.cache import cache_folder
from neuro.datasets.formats.nmnist import write_nmnist
from neuro.errors import ParameterError
from neuro.training.selection import choose, cross_validate

LABELS = [i % 3 for i in range(45)]
EPOCHS = {"a": 4, "b": 8}


def validated(folder, **how):
    pieces = folder / "pieces.txt"
    folder.mkdir(exist_ok=True)
    said = []
    how = {"folds": 3, "strengths": (1.0, 0.5), "share": 0.5, "seed": 7, "inner": 4, "say": said.append, **how}
    found = cross_validate(partial(work, pieces), LABELS, EPOCHS, folder=folder, **how)
    return found, [json.loads(line) for line in pieces.read_text().splitlines()], said


def test_candidates_never_see_the_fold_nor_their_judges(tmp_path):
    found, pieces, said = validated(tmp_path / "run")
    candidates, finals = pieces[:12], pieces[12:]
    assert len(pieces) == 3 * 2 * (2 + 1) and found == {"a": [pytest.approx(0.604)] * 3, "b": [pytest.approx(0.9)] * 3}
    tested = {}
    for p in finals:
        assert sorted(p["train"] + p["judged"]) == list(range(45))
        assert p["looks"] == [p["stop"]]  # it answers once
        tested[p["folder"].split("/")[-2]] = set(p["judged"])
    assert sorted(i for part in tested.values() for i in part) == list(range(45))
    for p in candidates:
        mine, fold = set(p["train"]) | set(p["judged"]), tested[p["folder"].split("/")[-2]]
        assert not mine & fold and mine | fold == set(range(45)) and not set(p["train"]) & set(p["judged"])
        counts = np.bincount([LABELS[i] for i in p["judged"]], minlength=3)
        assert counts.max() - counts.min() <= 1 and counts.sum() in (7, 8)
        assert (p["epochs"], p["stop"]) == (EPOCHS[p["kind"]] // 2,) * 2
    assert {(p["kind"], p["strength"], p["epochs"], p["stop"]) for p in finals} == {("a", 1.0, 4, 4), ("b", 0.5, 8, 6)}
    chosen = json.loads((tmp_path / "run/fold_1/chosen_a.json").read_text())
    assert (chosen["strength"], chosen["stop"], len(chosen["candidates"])) == (1.0, 4, 2)
    assert sum("chosen strength" in line for line in said) == 6 and any(line.startswith("[12/12]") for line in said)


def test_of_equals_the_weaker_and_the_earlier_is_taken():
    even = {s: {0.5: 0.8, 0.75: 0.8, 1.0: 0.8} for s in (1.0, 0.25, 0.5)}
    assert (choose(even).strength, choose(even).share) == (0.25, 0.5)
    assert choose({**even, 1.0: {1.0: 0.81}}).strength == 1.0


def test_processes_side_by_side_and_going_on_change_nothing(tmp_path):
    one, pieces, _ = validated(tmp_path / "one")
    two, _, _ = validated(tmp_path / "two", jobs=2)
    assert one == two
    (tmp_path / "one/fold_2/b/reached.json").unlink()
    again, more, _ = validated(tmp_path / "one", resume=True)
    assert again == one and len(more) == len(pieces) + 1 and more[-1]["kind"] == "b"


@pytest.mark.parametrize(
    "how", [{"strengths": ()}, {"strengths": (-1.0,)}, {"share": 0.0}, {"share": 1.5}, {"jobs": 0}, {"inner": 99}]
)
def test_nothing_to_choose_from(tmp_path, how):
    with pytest.raises(ParameterError):
        validated(tmp_path / "run", **how)


def test_the_recipe_on_a_few_recordings(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    for i in range(24):
        folder = tmp_path / f"data/train/{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        n = 300
        x = rng.integers(0, 17, n) + 17 * (i % 2)
        write_nmnist(
            make_events(x, rng.integers(0, 34, n), np.sort(rng.integers(0, 300_000, n)), rng.integers(0, 2, n)),
            folder / f"{i:05d}.bin",
        )
    monkeypatch.setenv("NEURO_CACHE", str(tmp_path / "kept"))
    words = "--folds 2 --epochs 2 --cnn-epochs 2 --selection 1 --workers 0 --bins 2 --strengths [0.1,1]".split()
    cli.main(["train", "spikformer_nmnist", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), *words])
    out = capsys.readouterr().out
    assert out.count("chosen strength") == 4 and "[8/8]" in out and "[4/4]" in out
    lines = out.splitlines()[-2:]
    for kind, line in zip(("transformer", "cnn"), lines, strict=True):
        for k in (0, 1):
            chosen = json.loads((tmp_path / f"run/fold_{k}/chosen_{kind}.json").read_text())
            (reached,) = json.loads((tmp_path / f"run/fold_{k}/{kind}/reached.json").read_text())["accuracy"].items()
            assert int(reached[0]) == chosen["stop"] and f"{reached[1]:.4f}" == line.split(": ")[1].split()[k]
            assert set(chosen["candidates"][0]["accuracy"]) == {"1", "2"}
    stop = json.loads((tmp_path / "run/fold_0/chosen_transformer.json").read_text())["stop"]
    assert (tmp_path / "run/fold_0/transformer/metrics.csv").read_text().count("\n") == 1 + stop
    assert json.loads((tmp_path / "run/split.json").read_text())["recordings"] == 24
    assert len(list(cache_folder().glob("*.cache"))) == 1
    cli.main(["train", "--resume", str(tmp_path / "run")])
    assert capsys.readouterr().out.splitlines()[-2:] == lines
