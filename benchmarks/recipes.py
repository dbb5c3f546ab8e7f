"""Every recipe on real data: trained once, judged once on the test part, beside a linear classifier and published baselines.

    python benchmarks/recipes.py [DATA] [--runs runs/recipes] [--out docs/recipes.md] [--only NAME ...]

DATA, by default what NEURO_DATA names, holds the folders named below. A recipe whose run has ended in --runs is not trained again; one that was stopped goes on. Settings were
chosen with --tune true, on a part of the training examples; the test part is answered once, after training. One thread.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

import torch

from neuro.files import replacing
from neuro.models import recipes
from neuro.training.judging import judged_in

WHERE = {  # recipe: where in DATA its data lies, what it is, and a baseline from elsewhere: on what, and the accuracy
    "conv_mnist": ("mnist", "MNIST", ""),
    "conv_cifar10": ("cifar10_jpeg", "CIFAR-10 as JPEG", ""),
    "conv_objects": ("dvs128_objects", "DVS128, objects, another day", "random forest on 32 x 32 counts, same parts: 0.54; judged twice: 0.5016 before an option that did next to nothing was removed"),
    "series_digits": ("fsdd", "spoken digits (FSDD)", "logistic regression on a log spectrum 40 x 32, same parts: 0.975"),
    "series_braille": ("braille_tactile", "Braille, 7 letters", "logistic regression on counts in 16 bins, other letters held out: 0.861"),
    "series_activities": ("wisdm_watch", "smartwatch activities, unseen persons", "random forest, other persons held out: 0.810"),
    "series_text": ("text/tinyshakespeare_first95.txt", "Tiny Shakespeare, next character", ""),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("NEURO_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", default=list(WHERE), choices=list(WHERE))
    given = parser.parse_args()
    if given.data is None:
        print("nothing to train on: name DATA, or set NEURO_DATA")
        return
    torch.set_num_threads(1)
    for name in given.only:
        folder = given.runs / name
        if not (folder / "summary.json").exists():
            print(f"== {name}", flush=True)
            recipes.load(name).main(out=folder, data=given.data / WHERE[name][0], resume=(folder / "recipe.json").exists())
    page = table({name: judged_in(given.runs / name) for name in given.only})
    print(page)
    if given.out:
        with replacing(given.out) as file:
            file.write(page.encode())


def table(found: dict[str, dict[str, Any]]) -> str:
    """The page, from the facts of every run."""
    lines = [
        "# Recipes on real data", "",
        "Printed by `python benchmarks/recipes.py DATA --out docs/recipes.md`: each recipe with its defaults, trained once on one thread, the test part",
        "answered once. Settings were chosen on a part of the training examples (`--tune true`). The opponents see the same examples and, but for the",
        "random forest, the same input, averaged over up to 32 parts of its time; the last column is from the notes of the data's collections.", "",
        "| recipe | data | split | train, test | parameters | accuracy | opponents | seed | minutes | elsewhere |", "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, facts in found.items():
        split, others = facts["split"], "; ".join(f"{other} {value:.4f}" for other, value in facts["others"].items())
        sizes = ", ".join(f"{part:,}" for part in (size(split["train"]), facts["examples"]))
        bits = f" ({facts['loss'] / math.log(2):.3f} bits a character)" if name == "series_text" else ""
        cells = [f"`{name}`", WHERE[name][1], split["name"], sizes, f"{facts['parameters']:,}", f"{facts['accuracy']:.4f}{bits}", others,
                 str(facts["seed"]), f"{facts['seconds'] / 60:.1f}", WHERE[name][2]]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def size(part: Any) -> int:
    """Examples of a part; of text its symbols."""
    return part["symbols"] if isinstance(part, dict) else part


if __name__ == "__main__":
    main()
