"""Products that look sums up: any number of planes beside events, at the ends of every block, and where a processor cannot."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.kernels import choosing, spike_conv, spike_linear, spike_lookup
from neuro.kernels.bits import pack
from neuro.kernels.costs import Work
from neuro.kernels.planning import plan
from neuro.kernels.spike_lookup import has_lookup

needs_lookup = pytest.mark.skipif(not has_lookup(torch.float32), reason="sums are looked up by AVX-512, which this processor lacks")
WORK = Work("linear", 80 * 40, 40 * 50, 80 * 50, 80, 50)


def counts(*shape, most=5):
    return ((torch.rand(shape) < 0.5) * torch.randint(1, most + 1, shape)).float()


def whole(*shape):
    """Multiples of 1/64: sums are exact in any order."""
    return (torch.randn(shape) * 64).round() / 64


@needs_lookup
@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 1100), inner=st.integers(1, 1100), outer=st.integers(1, 40), most=st.integers(1, 4), looked=st.integers(0, 4), seed=st.integers(0, 99))
def test_linear_with_some_planes_looked_up(rows, inner, outer, most, looked, seed):
    torch.manual_seed(seed)
    x, w, b, g = counts(rows, inner, most=most), whole(outer, inner), whole(outer), whole(rows, outer)
    packed = pack(x)
    looked = min(looked, len(packed.data))
    assert torch.equal(spike_linear.forward(packed, w, b, looked), F.linear(x, w, b))
    assert torch.equal(spike_linear.weight_gradient(packed, g, looked), (g.double().t() @ x.double()).float())


@needs_lookup
@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 5), c=st.integers(1, 70), o=st.integers(1, 20), groups=st.integers(1, 2), h=st.integers(1, 12), w=st.sampled_from([1, 4, 7, 8, 16, 33, 70]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=st.integers(1, 2), padding=st.integers(0, 2), dilation=st.integers(1, 2),
    most=st.integers(1, 3), looked=st.integers(0, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_convolutions_with_some_planes_looked_up(n, c, o, groups, h, w, kernel, stride, padding, dilation, most, looked, seed):
    torch.manual_seed(seed)
    if any(size + 2 * padding < dilation * (k - 1) + 1 for size, k in zip((h, w), kernel, strict=True)):
        return
    x, weight, bias = counts(n, c * groups, h, w, most=most), whole(o * groups, c, *kernel), whole(o * groups)
    sizes = spike_conv.sizes_of(x.shape, weight.shape, (stride, stride), (padding, padding), (dilation, dilation), groups)
    packed = pack(x)
    looked = min(looked, len(packed.data))
    y = F.conv2d(x.double(), weight.double(), bias.double(), stride, padding, dilation, groups)
    assert torch.equal(spike_conv.forward(packed, weight, bias, sizes, looked), y.float())
    if stride == 1:
        g = whole(*y.shape)
        nothing = weight.double().expand(weight.shape)
        wanted = spike_conv._dense_backward(g.double(), x.double(), nothing, sizes, (False, True, False))[1]
        assert torch.equal(spike_conv.weight_gradient(packed, g, sizes, looked), wanted.float())


@needs_lookup
def test_images_in_several_parts_give_the_same_gradient(monkeypatch):
    x, g = counts(7, 5, 9, 9), whole(7, 20, 9, 9)
    sizes = spike_conv.sizes_of(x.shape, torch.Size((20, 5, 3, 3)), (1, 1), (1, 1), (1, 1), 1)
    at_once = spike_lookup.convolution_gradient(pack(x), 5, g, sizes)
    monkeypatch.setattr(spike_lookup, "_KEPT", 1)
    assert torch.equal(spike_lookup.convolution_gradient(pack(x), 5, g, sizes), at_once)


@needs_lookup
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads):
    torch.manual_seed(3)
    x, w, g, image, k, h = counts(3000, 200), torch.randn(90, 200), torch.randn(3000, 90), counts(9, 16, 20, 20), torch.randn(40, 16, 3, 3), torch.randn(9, 40, 20, 20)
    sizes = spike_conv.sizes_of(image.shape, k.shape, (1, 1), (1, 1), (1, 1), 1)

    def found():
        return (
            spike_lookup.linear(pack(x), 2, w, None), spike_lookup.linear_gradient(pack(x), 2, g),
            spike_lookup.convolution(pack(image), 2, k, None, sizes), spike_lookup.convolution_gradient(pack(image), 2, h, sizes),
        )  # fmt: skip

    torch.set_num_threads(1)
    before = found()
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(before, found(), strict=True))


def test_an_infinite_weight_reaches_only_who_names_it():
    """Subtotals that no bits name may be infinite; they are not multiplied by 0."""
    x = torch.zeros(80, 40)
    x[3, 5] = 1
    w = torch.ones(50, 40)
    w[7, 6] = torch.inf
    with choosing.deterministic("lookup"):
        y = spike_linear.spike_linear(x, w)
    assert y.isfinite().all() and float(y.sum()) == 50


def test_where_it_cannot_be_looked_up_it_goes_by_events(monkeypatch):
    x = counts(80, 40, most=2)
    with choosing.deterministic("lookup"):
        assert plan(x.double(), WORK, keeps=True)[1:3] == (0, 0)  # no code for double
        if has_lookup(torch.float32):
            assert plan(x, WORK, keeps=True)[1:3] == (2, 2) and plan(x, WORK, keeps=True, looks=False)[1:3] == (2, 0)
        monkeypatch.setattr("neuro.kernels.planning.has_lookup", lambda dtype: False)
        assert plan(x, WORK, keeps=True)[1:3] == (0, 0)


@pytest.mark.parametrize(("name", "features", "can"), [("generic", "", False), ("skylake-avx512", "+avx512f,+avx2", True), ("", "+avx2", False)])
def test_numba_may_be_told_to_make_code_for_another_processor(monkeypatch, name, features, can):
    import numba

    monkeypatch.setattr(numba.config, "CPU_NAME", name)
    monkeypatch.setattr(numba.config, "CPU_FEATURES", features)
    has_lookup.cache_clear()
    try:
        assert has_lookup(torch.float32) is can and not has_lookup(torch.float64)
    finally:
        has_lookup.cache_clear()
