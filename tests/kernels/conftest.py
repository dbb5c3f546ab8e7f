"""Lets the tests here import the steps and the choice of a device that they share, and run those of the CPU by GPU kernels."""

import os
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent))

if os.environ.get("NEURO_SCANS_BY") == "gpu":  # set by a test of test_scans_on_gpu.py
    from neuro.kernels import cpu, gpu

    for name in ("DTYPES", "backward", "forward", "kept_shape", "kernels", "supports"):
        setattr(cpu, name, getattr(gpu, name))
    np.seterr(all="ignore")  # Triton's interpreter computes both sides of a choice
