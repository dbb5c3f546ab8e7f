"""Draw docs/demo.png, the picture of the README, from the folder of a demo: python docs/picture.py runs/demo"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import neuro
from neuro import plots
from neuro.demo import task
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.twin import run_twin
from neuro.training.runs import Run
from neuro.training.scores import scores

SHOWN = ("stem.stages.3.lif", "blocks.0.attention.q_lif", "blocks.1.mlp.down_lif")
MOTION = "clockwise"


def main(folder: Path, out: Path, width: int = 1500) -> None:
    """A recording as a strip, its spikes in the integer network, and the answers to all test recordings."""
    run = Run.open(folder)
    data = task.record(1, 0, run.options["test"], run.seed, lambda n: None)
    one = next(i for i, r in enumerate(data.test) if r.label == task.CLASSES.index(MOTION))
    frames = data.test_frames[one : one + 1].swapaxes(0, 1).astype(np.int32)
    spikes = run_twin(IntegerNetwork.load(folder / "network.npz"), frames, record=True).spikes
    given = task.answers(neuro.load(folder), data.test_frames).argmax(1).tolist()
    figures = [
        plots.event_strip(data.test[one].events, data.test[one].sensor, bins=8),
        plots.raster({name: spikes[name].reshape(len(frames), -1) for name in SHOWN}, most=60, dt=0.1 / task.BINS),
        plots.confusion(scores(data.test_labels.tolist(), given, task.CLASSES).confusion, task.CLASSES),
    ]
    pictures = [Image.open(io.BytesIO(plots.to_png(figure))).convert("RGB") for figure in figures]
    joined = Image.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)), "white")
    left = 0
    for picture in pictures:
        joined.paste(picture, (left, (joined.height - picture.height) // 2))
        left += picture.width
    small = joined.resize((width, joined.height * width // joined.width), Image.Resampling.LANCZOS)
    small.save(out, optimize=True)
    print(f"{out}: {small.width} x {small.height}, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"), Path(__file__).with_name("demo.png"))
