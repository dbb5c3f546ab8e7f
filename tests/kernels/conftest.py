"""Lets the tests here import the steps and the choice of a device that they share, run those of the CPU by GPU kernels, and fixes the form of a product."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parent))

if os.environ.get("NEURO_SCANS_BY") == "gpu":  # set by a test of test_scans_on_gpu.py
    from neuro.kernels import cpu, gpu

    for name in ("DTYPES", "backward", "forward", "kept_shape", "kernels", "supports"):
        setattr(cpu, name, getattr(gpu, name))
    np.seterr(all="ignore")  # Triton's interpreter computes both sides of a choice


@pytest.fixture(params=["events", "lookup"])
def form(request):
    """Products with spikes take this form in the test."""
    from neuro.kernels import choosing  # not before, so that types can still be checked on import
    from neuro.kernels.spike_lookup import has_lookup

    if request.param == "lookup" and not has_lookup(torch.float32):
        pytest.skip("sums are looked up by AVX-512, which this processor lacks")
    with choosing.deterministic(request.param):
        yield request.param
