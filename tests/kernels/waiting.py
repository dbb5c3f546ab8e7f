"""How OpenMP's threads are said to wait, for the tests of the threads that kernels run on."""

from neuro.kernels import openmp


def wait_as(policy, monkeypatch):
    """As in a process whose environment says so; that torch's library was told otherwise when it was loaded changes times alone."""
    if policy is None:
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    else:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    openmp._found.cache_clear()
