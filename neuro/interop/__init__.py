"""Live networks of other libraries as native modules with the same spikes, so that kernels, counts and exports apply to them."""

from neuro.interop.norse import from_norse
from neuro.interop.snntorch import from_snntorch
from neuro.interop.spikingjelly import from_spikingjelly

__all__ = ["from_norse", "from_snntorch", "from_spikingjelly"]
