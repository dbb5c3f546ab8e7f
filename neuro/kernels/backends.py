"""Which kernels run on which device. A backend is a module with these functions; a device without one takes the plain loop.

| name | what |
|---|---|
| `DTYPES` | types of inputs that it takes |
| `supports(x, state, params, lengths)` | whether it can be given these tensors |
| `forward(program, x, state, params, numbers, lengths, keep)` | outputs, states afterwards, and with `keep` what it keeps for backward |
| `backward(program, grad_y, grad_state, x, state, params, kept, numbers, lengths, wants, wants_state)` | gradients |
| `kernels(program)` | what it has made of a program: its `.program`, the types `.kept` of what forward keeps for backward, and which inputs backward `.reads` too |
| `kept_shape(call)` | the shape of each of those |
| `steps_like(steps, lengths)` | a small number of steps for which the same kernel runs as for these |
"""

from __future__ import annotations

from types import ModuleType

from neuro.kernels import cpu, gpu

BY_DEVICE: dict[str, ModuleType] = {"cpu": cpu, "cuda": gpu, "xpu": gpu}  # "cuda" is also what torch calls a GPU of AMD's


def of(device_type: str) -> ModuleType | None:
    """The backend for `tensor.device.type`, or None."""
    return BY_DEVICE.get(device_type)


def lays_out(device_type: str) -> ModuleType:
    """The backend whose shapes hold for tensors without values: meta tensors meet no kernel, so any does."""
    return BY_DEVICE.get(device_type, cpu)


def count_kept(device_type: str, program: str) -> int:
    """How many tensors forward keeps for backward there."""
    return len(lays_out(device_type).kernels(program).kept)


count_kept._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch.compile takes the number, and reads no program
