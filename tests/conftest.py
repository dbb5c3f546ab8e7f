"""What all tests share: one thread, one seed, the root kept off sys.path, and real data found through NEURO_DATA."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # here and in the processes that tests start; read when torch loads
if "PYTEST_XDIST_WORKER" in os.environ:  # each core has a worker of its own, so the processes that tests start get one thread too
    os.environ.setdefault("OMP_NUM_THREADS", "1")

os.environ.setdefault("NEURO_PRODUCTS", "dense")  # no test depends on what was timed; those of products with spikes fix a form

if "NEURO_CACHE" not in os.environ:  # nothing is left in the user's folder; the processes that tests start inherit it
    scratch = runpy.run_path(str(Path(__file__).resolve().parent.parent / "neuro/scratch.py"))  # not imported, so that types can still be checked on import
    CACHE = scratch["Scratch"]("neuro-cache")
    os.environ["NEURO_CACHE"] = str(CACHE.path)

import pytest  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

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
def steady() -> None:
    """Every test starts from the same random numbers, on one thread: two on tiny tensors mostly wait for each other."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


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
