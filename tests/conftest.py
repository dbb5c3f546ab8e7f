"""What all tests share: the repository root is kept off sys.path, and real data is found through NEURO_DATA."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]  # else `import datasets` finds our folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings, or a skip that says how to provide one."""
    folder = os.environ.get("NEURO_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("NEURO_DATA does not name a folder of real recordings (see tests/README.md)")
    return Path(folder)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random numbers."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def make_exact():
    """Weights that are multiples of 2^-8 and norms that are identities: with binary input every sum is exact."""

    def make(model: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
                    fan_in = module.weight[0].numel()
                    noise = torch.randn(module.weight.shape, generator=generator)
                    module.weight.copy_(((noise + 0.15) * 4 / fan_in**0.5 * 256).round() / 256)
                    if module.bias is not None:
                        module.bias.copy_((torch.randn(module.bias.shape, generator=generator) * 64).round() / 256)
                if hasattr(module, "running_var"):
                    module.eps = 0.0
        return model.eval()

    return make


@pytest.fixture(scope="session")
def run_processes():
    """Run a script in several processes at once, each with its rank and a folder as arguments."""

    def run(script: str, processes: int, folder: Path) -> None:
        started = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(rank), str(folder)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for rank in range(processes)
        ]
        try:
            said = [process.communicate(timeout=120)[0] for process in started]
        finally:
            for process in started:
                process.kill()
        assert not any(process.returncode for process in started), "\n".join(said)

    return run
