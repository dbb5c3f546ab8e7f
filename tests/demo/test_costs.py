"""The demo's costs: both networks are priced on the same recordings."""

import numpy as np
import pytest
import torch

import neuro
from neuro.demo import chip, costs
from neuro.deploy.elementwise import RULE, elementwise_work, energy
from neuro.deploy.energy import ann_once_work, ann_work, estimate, int8, with_activations


def test_both_networks_are_priced_on_the_same_recordings(tmp_path):
    """Recordings after the sample, here empty ones, change neither side."""
    torch.manual_seed(0)
    model = neuro.models.small("spikformer_motions", dim=16).eval()
    frames = np.random.default_rng(0).poisson(0.5, (costs.SAMPLED, 3, 2, 16, 16)).astype(np.uint8)
    found = []
    for more in (0, 60):
        every = np.concatenate([frames, np.zeros((more, *frames.shape[1:]), np.uint8)])
        cost = costs.count(model, chip.deploy(model, every, tmp_path), every)
        found.append({k: v for k, v in cost.summary.items() if v is not None})
    assert found[0]["energy_snn_uj"] > 0 and found[0] == pytest.approx(found[1])


def test_every_opponent_and_the_work_between_layers_are_in_the_report(tmp_path):
    """The layers' figures are those of the table; what lies between layers is stated beside them for every side, the once-run ANN among them."""
    torch.manual_seed(0)
    model = neuro.models.small("spikformer_motions", dim=16).eval()
    frames = np.random.default_rng(1).poisson(0.7, (6, 3, 2, 16, 16)).astype(np.uint8)
    deployed = chip.deploy(model, frames, tmp_path)
    cost = costs.count(model, deployed, frames)
    x = torch.from_numpy(frames).float().transpose(0, 1)
    graph = neuro.trace(model, x[:, :1])
    between = elementwise_work(graph, x)
    for side, found in between.items():
        profile = with_activations(int8, 2) if side == "once" else int8  # three steps: two bits
        assert cost.summary[f"energy_elementwise_{side}_uj"] == pytest.approx(energy(found, profile)) and energy(found, profile) > 0
    once, bits = ann_once_work(graph, x)
    assert bits == 2 and cost.summary["energy_ann_once_uj"] == pytest.approx(estimate(once, with_activations(int8, 2), "sparse").total)
    assert cost.summary["energy_ann_sparse_uj"] == pytest.approx(estimate(ann_work(graph, x)[1], int8, "sparse").total)
    (rows,) = (rows for caption, rows in cost.tables.items() if caption.startswith("Elementwise"))
    assert {r["kind"] for r in rows} >= {"Add", "MeanOverTime", "AttentionProduct"} and all(r["SNN nJ"] for r in rows)
    assert all(r in cost.notes for r in RULE) and "With them the SNN is" in cost.words and "run once on the mean" in cost.text
