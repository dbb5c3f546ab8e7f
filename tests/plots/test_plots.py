"""Every plot: as many bars as layers, nothing lost, no global state, and errors for what cannot be drawn."""

import io
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from neuro import plots
from neuro.datasets.events import Sensor, make_events
from neuro.errors import FormatError, ParameterError, ShapeError
from neuro.plots.columns import columns, numbers
from neuro.plots.energies import unit_for
from neuro.plots.strips import event_counts
from neuro.surrogate import ATan, Triangle

LAYERS = [f"blocks.{k}.attention.with.a.very.long.name.lif" for k in range(7)]


def bars(axes) -> list:
    return [p for p in axes.patches if p.get_width() or p.get_height()]


def some_events(n: int = 500):
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(5, 99_990, n))
    return make_events(rng.integers(0, 20, n), rng.integers(0, 12, n), t, rng.integers(0, 2, n))


def all_figures() -> dict:
    rates = {name: 0.1 * k for k, name in enumerate(LAYERS)}
    energy = {name: {"SNN": {"compute": 1e-9, "memory": 2e-9}, "ANN dense": {"compute": 4e-9}} for name in LAYERS}
    return {
        "raster": plots.raster(torch.rand(8, 5, 3) < 0.3),
        "strip": plots.event_strip(some_events(), Sensor(12, 20), 5),
        "curves": plots.learning_curves({"epoch": [1, 2], "train_loss": [2.0, 1.0], "val_accuracy": [0.1, None], "lr": [1, 0.5]}),
        "rates": plots.firing_rates(rates, rates, {}),
        "history": plots.rate_history([{"step": s, "layer": n, "rate": 0.1} for s in (1, 2) for n in LAYERS]),
        "energy": plots.energy_bars(energy),
        "changes": plots.quantization_changes(rates),
        "confusion": plots.confusion(np.eye(3, dtype=int) * 5, ["a", "b", "c"]),
        "surrogate": plots.surrogate([ATan(2.0), Triangle()]),
    }


def test_every_figure_draws_without_a_warning_and_without_pyplot(recwarn):
    for name, figure in all_figures().items():
        html, kind = plots.inline(figure, f"<{name}>")
        assert kind in ("svg", "png") and "http" not in html and f"&lt;{name}&gt;" in html
        assert plots.to_png(figure)[:4] == b"\x89PNG"
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]
    code = "import sys, neuro.plots, neuro.report; assert 'matplotlib' not in sys.modules\n"
    code += "neuro.plots.firing_rates({'a': 0.1}); assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_draw_at_once():
    made = []
    threads = [threading.Thread(target=lambda: made.append(plots.to_svg(plots.firing_rates({"a": 0.1, "b": 0.2})))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4 and len(set(made)) == 1


def test_figures_can_share_a_page():
    """In a notebook every figure stands in the same document, so no id may occur in two of them."""
    found = [set(re.findall(r'\sid="([^"]+)"', plots.to_svg(figure))) for figure in all_figures().values()]
    assert all(found) and len(set.union(*found)) == sum(map(len, found))


def test_figures_of_layers_have_a_bar_per_layer():
    figures = all_figures()
    rate, share = figures["rates"].axes
    assert len(rate.patches) == len(LAYERS) and len(share.patches) == 3 * len(LAYERS)
    assert len(figures["energy"].axes[0].patches) == len(LAYERS) * 2 * 2
    changes = figures["changes"].axes[0]
    assert len(changes.patches) == len(LAYERS)
    assert [p.get_width() for p in changes.patches] == pytest.approx([0.1 * k for k in range(7)])
    labels = [label.get_text() for label in changes.get_yticklabels()]
    assert len(set(labels)) == len(LAYERS) and all(len(label) <= 30 for label in labels)


def test_shares_fill_the_bar():
    share = plots.firing_rates({"a": 0.1}, {"a": 0.3}, {"a": 0.2}).axes[1]
    assert [p.get_width() for p in share.patches] == pytest.approx([0.3, 0.5, 0.2])


def test_event_strip_keeps_every_event():
    events = some_events()
    counts, edges = event_counts(events, Sensor(12, 20), 7)
    assert counts.sum() == len(events) and counts.shape == (7, 2, 12, 20)
    assert counts[:, 1].sum() == events["p"].sum()
    edges_of = np.searchsorted(edges, events["t"], side="right") - 1
    assert np.array_equal(counts.sum((1, 2, 3)), np.bincount(edges_of, minlength=7))
    figure = plots.event_strip(events, Sensor(12, 20), 7)
    shown = [axes.get_title().split("\n")[1] for axes in figure.axes if axes.get_visible()]
    assert sum(int(s.split()[0].replace(",", "")) for s in shown) == len(events)
    empty = plots.event_strip(events[:0], Sensor(12, 20), 3)
    assert all("0 events" in axes.get_title() for axes in empty.axes if axes.get_visible())


def test_event_strip_refuses():
    with pytest.raises(FormatError, match="x=19"):
        plots.event_strip(some_events(), Sensor(12, 19), 3)
    with pytest.raises(ParameterError):
        plots.event_strip(some_events(), Sensor(12, 20), 0)
    with pytest.raises(ShapeError):
        plots.event_strip(np.zeros((3, 4)), Sensor(12, 20), 3)


def test_animation_has_a_picture_per_frame():
    frames = torch.zeros(6, 1, 2, 12, 20)
    for t in range(6):
        frames[t, 0, t % 2, 3, t] = 4
    gif = Image.open(io.BytesIO(plots.event_animation(frames)))
    assert gif.n_frames == 6 and gif.size == (20 * 9, 12 * 9) and gif.info["loop"] == 0
    gif.seek(3)
    r, _, b = gif.convert("RGB").getpixel((3 * 9 + 4, 3 * 9 + 4))
    assert b > r  # ON is blue
    with pytest.raises(ShapeError):
        plots.event_animation(frames[..., 0])
    with pytest.raises(ParameterError):
        plots.event_animation(frames, seconds_per_frame=0)


def test_raster_draws_every_spike_of_the_neurons_shown():
    s = torch.rand(9, 4, 5) < 0.3
    axes = plots.raster(s).axes[0]
    (line,) = axes.lines
    drawn = {(int(t), int(n)) for t, n in zip(*line.get_data(), strict=True)}
    assert drawn == {(int(t), int(n)) for t, n in s.flatten(1).nonzero()}
    assert len(plots.raster({"a": s, "b": s}).axes) == 2
    assert "400 of 1,000" in plots.raster(torch.ones(2, 1000)).axes[0].get_title("right")
    with pytest.raises(ShapeError):
        plots.raster(torch.ones(3))


def test_learning_curves_leave_out_what_is_missing():
    figure = plots.learning_curves([{"epoch": 1, "val_loss": "0.5", "val_accuracy": ""}, {"epoch": 2, "val_loss": "0.25"}])
    (axes,) = figure.axes
    assert list(axes.lines[0].get_ydata()) == [0.5, 0.25]
    assert "best 0.25 at 2" == axes.get_title("right")
    assert len(plots.learning_curves({"train_loss": [1, 2], "lr": [3, 4]}, only=["lr"]).axes) == 1
    with pytest.raises(ShapeError, match="columns a"):
        plots.learning_curves({"a": ["x"]})


def test_a_dataframe_is_a_table():
    pandas = pytest.importorskip("pandas")
    rows = [{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.0}]
    assert columns(pandas.DataFrame(rows)) == columns(rows)
    assert np.isnan(numbers(["", None, "x"])).all()


def test_confusion_and_surrogates():
    figure = plots.confusion([[3, 1], [0, 0]], ["left", "right"])
    assert "75.0% of 4" in figure.axes[0].get_title("left")
    assert sorted(t.get_text() for t in figure.axes[0].texts) == ["1", "3"]
    with pytest.raises(ShapeError):
        plots.confusion([[1, 2]])
    with pytest.raises(ShapeError):
        plots.confusion(np.eye(2), ["a"])
    forward, backward = plots.surrogate(ATan(2.0)).axes
    assert max(backward.lines[0].get_ydata()) == pytest.approx(1.0)
    assert len(forward.lines) == 2  # spike and primitive


def test_units():
    assert unit_for(3.2e-6) == (1e-6, "µJ") and unit_for(0.0)[1] == "pJ" and unit_for(5.0)[1] == "J"
