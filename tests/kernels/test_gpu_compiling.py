"""Triton compiles the generated kernels to machine code of NVIDIA's and AMD's GPUs. It needs no GPU for that; nothing runs here."""

import functools
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from three_states import Three, ThreeParams, normal, three_step
from where_triton_runs import FOUND, INTERPRETED, needs_compiler, run_with_triton
from words_of_steps import WORDS

from neuro.kernels import gpu, programs
from neuro.kernels.program import flat, trace
from neuro.neurons import ALIF, CUBALIF, LIF, PLIF
from neuro.reset import Subtract
from neuro.surrogate import Sigmoid

TARGETS = {"Ampere": ("cuda", 80, 32), "CDNA 3": ("hip", "gfx942", 64)}
if os.environ.get("NEURO_TEST_FULL"):
    TARGETS |= {"Turing": ("cuda", 75, 32), "Hopper": ("cuda", 90, 32), "RDNA 3": ("hip", "gfx1100", 32)}
_TYPES = {torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.int8: "*i8", torch.int64: "*i64"}


@pytest.mark.skipif(FOUND or INTERPRETED, reason="the kernels are compiled in this process")
def test_kernels_are_compiled():
    run_with_triton(__file__, at_least=15, interpreted=False)


@pytest.fixture
def assembly(monkeypatch, tmp_path):
    """Launches compile for the target that is set, and add the text to the list."""
    made, target = [], []

    def launch(kernel, arrays, numbers, call):
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        function, block = kernel.function, gpu._block(call)
        given = [*[_TYPES[a.dtype] for a in arrays], *["i64" if torch.float64 in {a.dtype for a in arrays} else "i32" for _ in numbers], "i32", "i32", "i32"]
        signature = dict(zip(function.arg_names, [*given, "constexpr"], strict=True))
        source = ASTSource(function, signature, {(len(given),): block})
        compiled = triton.compile(source, target=GPUTarget(*target[0]), options=gpu.OPTIONS)
        assert len(compiled.asm["cubin" if target[0][0] == "cuda" else "hsaco"]) > 1000
        made.append(compiled.asm["ptx" if target[0][0] == "cuda" else "amdgcn"])
        if target[0][0] == "cuda":
            (tmp_path / f"{len(made)}.cubin").write_bytes(compiled.asm["cubin"])

    monkeypatch.setattr(gpu, "_launch", launch)
    monkeypatch.setenv("NEURO_CACHE", str(tmp_path / "sources"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "compiled"))
    gpu._function.cache_clear()
    gpu.kernels.cache_clear()
    return target, made


def compile_both(step, x, state, params, lengths=None, **choices):
    """Forward and backward as `scan` would launch them."""
    inputs, states, given = flat(x), flat(state), programs.tensors(params)
    wide = torch.float64 if inputs[0].dtype == torch.float64 else torch.float32
    program = trace(step, x, state, params, choices, wide, bake=False)[0]
    numbers, ends = programs.numbers(params), len(program.outputs)
    results = gpu.forward(program.to_json(), inputs, states, given, numbers, lengths, True)
    kept = results[ends + len(states) :]
    wants = [True] * (len(inputs) + len(given))
    gpu.backward(program.to_json(), results[:ends], results[ends : ends + len(states)], inputs, states, given, kept, numbers, lengths, wants)


@needs_compiler
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("make", "dtype"), [(LIF, torch.float32), (PLIF, torch.bfloat16), (CUBALIF, torch.float16), (ALIF, torch.float64)], ids=str)
def test_neurons_of_ours(assembly, name, make, dtype):
    target, made = assembly
    target.append(TARGETS[name])
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    neuron = make().to(wide)
    state = neuron.State(*(normal(3, 37, dtype=wide) for _ in neuron.State._fields))
    compile_both(neuron.step, normal(7, 3, 37, dtype=dtype), state, neuron.params(), **neuron.choices())
    assert len(made) == 2


@needs_compiler
def test_products_and_sums_are_rounded_apart(assembly, tmp_path):
    """As in the loop, in the machine's own code: PTX leaves it open, and the next compiler decides."""
    import triton

    target, made = assembly
    target.append(TARGETS["Ampere"])
    neuron = LIF()
    compile_both(neuron.step, normal(7, 3, 37), LIF.State(normal(3, 37)), neuron.params(), **neuron.choices())
    assert not any(re.search(r"\bfma\.", text) for text in made)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"
    code = subprocess.run([tool, tmp_path / "1.cubin"], capture_output=True, text=True, check=True).stdout
    assert "FMUL" in code and "FADD" in code and "FFMA" not in code


@needs_compiler
@pytest.mark.parametrize("name", TARGETS)
def test_parameters_and_lengths_of_every_kind(assembly, name):
    target, made = assembly
    target.append(TARGETS[name])
    p, state = ThreeParams(normal(3, 1), normal(37), normal(), 1.1), Three(*(normal(3, 37) for _ in range(3)))
    compile_both(three_step, normal(7, 3, 37), state, p, torch.tensor([7, 0, 4]), spike=Sigmoid(), reset=Subtract(detach=False))
    assert len(made) == 2


@needs_compiler
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_word(assembly, name, dtype):
    target, made = assembly
    target.append(TARGETS[name])

    def step(x, state, p):
        return functools.reduce(torch.add, [word(*x) for word in WORDS.values()]), (state[0] * 0.5 + x[0],)

    compile_both(step, (normal(2, 3, 37, dtype=dtype), normal(2, 3, 37, dtype=dtype)), (normal(3, 37, dtype=dtype),), None)
    assert len(made) == 2
    if TARGETS[name][0] == "cuda":
        assert not any(re.search(r"div\.(full|approx)|sqrt\.approx", text) for text in made)
        assert all("div.rn" in text for text in made)
