"""A convolution's gradient by its input from Winograd's tiles: equal to the direct sum in double, near it in float32, and taken where the table says."""

from dataclasses import MISSING, fields, replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro.kernels import choosing, spike_conv, winograd
from neuro.kernels.costs import Costs, Work

NEEDED = {f.name: 1e-11 for f in fields(Costs) if f.default is MISSING}
QUICK = Costs(**NEEDED | {"pack": 1e-12, "unpack": 1e-12}, input_dense=2e-11, input_winograd=1e-11)


def sizes_of(n, c, d, h, w, padding):
    return spike_conv.sizes_of(torch.Size((n, c, h, w)), torch.Size((d, c, 3, 3)), (1, 1), padding, (1, 1), 1)


def direct(grad, weight, sizes, n):
    """By definition: what leaves an input through every tap."""
    x = torch.zeros(n, sizes.C, sizes.H, sizes.W, dtype=grad.dtype, requires_grad=True)
    (found,) = torch.autograd.grad(F.conv2d(x, weight, padding=(sizes.p_h, sizes.p_w)), x, grad)
    return found


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 5), c=st.sampled_from([16, 32, 48]), d=st.sampled_from([16, 32]), h=st.integers(1, 13), w=st.integers(1, 21),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)), seed=st.integers(0, 99),
)  # fmt: skip
def test_equal_to_the_direct_sum(n, c, d, h, w, padding, seed):
    if h + 2 * padding[0] < 3 or w + 2 * padding[1] < 3:
        return
    torch.manual_seed(seed)
    sizes = sizes_of(n, c, d, h, w, padding)
    grad, weight = torch.randn(n, d, sizes.H_out, sizes.W_out, dtype=torch.float64), torch.randn(d, c, 3, 3, dtype=torch.float64)
    wanted = direct(grad, weight, sizes, n)
    assert torch.allclose(winograd.input_gradient(grad, weight, sizes), wanted, rtol=0, atol=1e-12)
    single = winograd.input_gradient(grad.float(), weight.float(), sizes)
    assert single.dtype == torch.float32 and (single - wanted).square().mean().sqrt() <= 5e-6 * wanted.square().mean().sqrt()


def test_its_error_is_a_few_times_that_of_numbers_added_one_after_the_other():
    """1728 products a place, as in the gradient of a layer of 192 channels."""
    torch.manual_seed(0)
    sizes = sizes_of(1, 64, 192, 8, 8, (1, 1))
    grad, weight = torch.randn(1, 192, 8, 8), torch.randn(192, 64, 3, 3)
    wanted = direct(grad.double(), weight.double(), sizes, 1)
    columns = F.unfold(grad, 3, padding=1)[0]  # [192 * 9, places], a row for each tap of the turned kernel
    turned = weight.flip(2, 3).transpose(0, 1).reshape(64, -1)
    plain = torch.zeros(64, 64)
    for k in range(columns.shape[0]):
        plain += turned[:, k, None] * columns[k]
    of_plain, of_tiles = ((found.view(wanted.shape) - wanted).square().mean().sqrt() for found in (plain, winograd.input_gradient(grad, weight, sizes)))
    assert of_tiles < 6 * of_plain and of_tiles < 4e-6 * wanted.square().mean().sqrt()


@pytest.mark.parametrize("threads", [2, 3])
def test_parts_and_threads_change_rounding_alone(threads, monkeypatch):
    torch.manual_seed(0)
    sizes, grad, weight = sizes_of(7, 32, 48, 9, 10, (1, 1)), torch.randn(7, 48, 9, 10), torch.randn(48, 32, 3, 3)
    torch.set_num_threads(1)
    wanted = winograd.input_gradient(grad, weight, sizes)
    torch.set_num_threads(threads)
    assert torch.allclose(winograd.input_gradient(grad, weight, sizes), wanted, atol=1e-5)  # the products of matrices are torch's
    monkeypatch.setattr(winograd, "_TILES", 1)
    assert torch.allclose(winograd.input_gradient(grad, weight, sizes), wanted, atol=1e-5)


def test_any_layout_of_the_gradient():
    sizes, weight = sizes_of(2, 32, 32, 6, 6, (1, 1)), torch.randn(32, 32, 3, 3)
    grad = torch.randn(2, 32, 6, 6)
    wanted = winograd.input_gradient(grad, weight, sizes)
    for other in (grad.to(memory_format=torch.channels_last), grad.flip(0).flip(0), grad.transpose(2, 3).contiguous().transpose(2, 3)):
        assert torch.equal(winograd.input_gradient(other, weight.transpose(0, 1).contiguous().transpose(0, 1), sizes), wanted)


@pytest.mark.parametrize("change", [{"K_h": 5}, {"s_w": 2}, {"d_h": 2}, {"groups": 2}, {"p_h": 3}, {"C": 40}, {"D": 16}])
def test_other_convolutions_do_not_fit(change):
    sizes = sizes_of(1, 32, 32, 8, 8, (1, 1))
    assert winograd.fits(sizes) and not winograd.fits(sizes._replace(**change))


def test_a_layer_takes_it_where_the_table_says_so(monkeypatch):
    torch.manual_seed(0)
    x, weight = (torch.rand(8, 64, 16, 16) < 0.05).float().requires_grad_(), torch.randn(64, 64, 3, 3)
    calls = []
    own = winograd.input_gradient
    monkeypatch.setattr(winograd, "input_gradient", lambda *a: calls.append(1) or own(*a))
    found = {}
    for name, table in (("tiles", QUICK), ("slower", replace(QUICK, input_winograd=1.9e-11)), ("not there", replace(QUICK, input_winograd=0.0)), ("events", "events")):
        with choosing.deterministic(table):
            y = spike_conv.spike_conv2d(x, weight, padding=(1, 1))
            before = len(calls)
            (found[name],) = torch.autograd.grad(y.square().sum(), x)
            assert len(calls) - before == (name == "tiles")
    apart = (found["tiles"] - found["events"]).square().mean().sqrt()
    assert 0 < apart < 5e-6 * found["events"].square().mean().sqrt()


def test_backward_inside_autocast_stays_as_it_was_forward():
    torch.manual_seed(0)
    sizes, grad, weight = sizes_of(2, 32, 32, 6, 6, (1, 1)), torch.randn(2, 32, 6, 6), torch.randn(32, 32, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = winograd.input_gradient(grad, weight, sizes)
    assert torch.equal(found, winograd.input_gradient(grad, weight, sizes))


def test_narrow_layers_are_left_to_the_direct_sum():
    """Of those a larger share of the time goes into moving numbers, which the table holds apart."""
    table = replace(QUICK, input_winograd=7e-12, input_winograd_output=3e-9, input_dense=1.7e-11, input_dense_output=1e-9)

    def conv(channels, tiles=True):
        return Work("conv", 16 * channels * 256, 9 * channels**2, 16 * channels * 256, 16, 9 * channels, tiles)

    assert [table.prefers_winograd(conv(channels)) for channels in (16, 32, 64, 256)] == [False, False, True, True]
    assert not table.prefers_winograd(conv(256, tiles=False)) and not QUICK.prefers_winograd(conv(256, tiles=False))
