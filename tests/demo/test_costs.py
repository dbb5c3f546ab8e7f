"""The demo's costs: both networks are priced on the same recordings."""

import numpy as np
import pytest
import torch

import neuro
from neuro.demo import chip, costs


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
