"""BatchNorm over time and batch: torch's, without padding, joined over processes."""

import pytest
import torch
from torch import nn

import neuro
from neuro.errors import ParameterError, ShapeError
from neuro.layers import BatchNorm, ThresholdBN

SHAPES = {2: (4, 3, 5, 6, 6), -1: (4, 3, 7, 5)}


def torch_norm(x, axis):
    """nn.BatchNorm1d on [samples, C], and x in that form."""
    return x.movedim(axis, -1).flatten(0, -2)


def randomise(norm):
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    return norm


@pytest.mark.parametrize("axis", SHAPES)
@pytest.mark.parametrize("joined", [False, True])
def test_equals_torch_in_output_gradient_and_statistics(axis, joined):
    ours, theirs = randomise(BatchNorm(5, axis=axis, momentum=0.3)), nn.BatchNorm1d(5, momentum=0.3)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    for _ in range(3):
        a = (torch.randn(SHAPES[axis]) * 2 + 1).requires_grad_()
        b = a.detach().clone().requires_grad_()
        y = ours._joined(a, ours.weight, None) if joined else ours(a)
        expected = theirs(torch_norm(b, axis))
        torch.testing.assert_close(torch_norm(y, axis), expected, rtol=1e-4, atol=1e-5)
        weigh = torch.randn_like(y)
        grads = torch.autograd.grad((y * weigh).sum(), [a, *ours.parameters()])
        others = torch.autograd.grad((expected * torch_norm(weigh, axis)).sum(), [b, *theirs.parameters()])
        for mine, other in zip(grads, others, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    x = torch.randn(SHAPES[axis])
    torch.testing.assert_close(torch_norm(ours.eval()(x), axis), theirs.eval()(torch_norm(x, axis)))


@pytest.mark.parametrize("axis", SHAPES)
def test_padded_statistics_are_those_of_the_steps_that_count(axis):
    norm, alone = BatchNorm(5, axis=axis), nn.BatchNorm1d(5)
    x, lengths = torch.randn(SHAPES[axis]), torch.tensor([4, 1, 2])
    valid = torch.arange(4)[:, None] < lengths
    y, _ = neuro.run(norm, x, lengths=lengths)
    kept = x[valid].movedim(axis - 1 if axis > 0 else axis, -1).flatten(0, -2)
    expected = alone(kept)
    torch.testing.assert_close(y[valid].movedim(axis - 1 if axis > 0 else axis, -1).flatten(0, -2), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_mean, alone.running_mean)
    torch.testing.assert_close(norm.running_var, alone.running_var)


def test_a_chunk_in_which_all_samples_have_ended_changes_nothing():
    norm = BatchNorm(5)
    _, state = neuro.run(norm, torch.randn(4, 2, 5), lengths=torch.tensor([2, 1]))
    before = norm.running_mean.clone(), norm.running_var.clone()
    y, _ = neuro.run(norm, torch.randn(4, 2, 5), state, lengths=torch.tensor([0, 0]))
    assert y.isfinite().all() and torch.equal(norm.running_mean, before[0]) and torch.equal(norm.running_var, before[1])


@pytest.mark.parametrize("kind", [BatchNorm, ThresholdBN])
@pytest.mark.parametrize("axis", SHAPES)
def test_affine_is_the_evaluation_mode(kind, axis):
    norm = randomise(kind(5, axis=axis, **({"threshold": 0.7, "alpha": 0.5} if kind is ThresholdBN else {})))
    x = torch.randn(SHAPES[axis])
    norm(x)
    a, b = norm.eval().affine()
    torch.testing.assert_close(norm(x).movedim(axis, -1), a * x.movedim(axis, -1) + b)


@pytest.mark.parametrize("training", [True, False])
def test_threshold_bn_is_batch_norm_times_alpha_times_threshold(training):
    td, plain, x = ThresholdBN(5, threshold=0.5, alpha=0.7), BatchNorm(5), torch.randn(4, 3, 5)
    torch.testing.assert_close(td.train(training)(x), 0.35 * plain.train(training)(x))
    assert "scale=0.35" in repr(td)
    torch.testing.assert_close(ThresholdBN(5)(x).std(dim=(0, 1), unbiased=False), torch.ones(5), rtol=1e-4, atol=1e-4)


def test_evaluation_does_not_depend_on_the_batch():
    norm, x = randomise(BatchNorm(5)).eval(), torch.randn(4, 6, 5)
    torch.testing.assert_close(norm(x)[:, 2:3], norm(x[:, 2:3]))  # its products round differently at other sizes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("padded", [False, True])
def test_dtype_is_kept(dtype, padded):
    norm = BatchNorm(5).double() if dtype == torch.float64 else BatchNorm(5)
    y, _ = neuro.run(norm, torch.randn(4, 3, 5).to(dtype), lengths=torch.tensor([4, 2, 3]) if padded else None)
    assert y.dtype == dtype


def test_wrong_axes_are_refused():
    with pytest.raises(ShapeError, match="expected 5 channels on axis 2"):
        BatchNorm(5)(torch.zeros(4, 3, 7, 5))
    with pytest.raises(ParameterError, match="axis=3"):
        BatchNorm(5, axis=3)


ONE_OF_TWO = """
import sys, torch, neuro
from neuro.layers import BatchNorm

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt", weights_only=True)
answer = {}
for name, axis in (("maps", 2), ("tokens", -1), ("padded", -1)):
    norm = BatchNorm(5, axis=axis)
    norm.load_state_dict(given["weights"])
    mine = slice(0, 3) if rank == 0 else slice(3, 5)  # unequal shares
    x = given[name][:, mine].clone().requires_grad_()
    y, _ = neuro.run(norm, x, lengths=given["lengths"][mine] if name == "padded" else None)
    (y * given[name + " weigh"][:, mine]).sum().backward()
    answer[name] = [y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
torch.save(answer, f"{folder}/{rank}.pt")
torch.distributed.barrier()  # neither leaves while the other still needs it
torch.distributed.destroy_process_group()
"""


def test_two_processes_equal_one_on_the_joined_batch(tmp_path, run_processes):
    norm = randomise(BatchNorm(5))
    given = {"weights": norm.state_dict(), "lengths": torch.tensor([4, 1, 2, 3, 4])}
    for name, shape in (("maps", (4, 5, 5, 3, 3)), ("tokens", (4, 5, 6, 5)), ("padded", (4, 5, 6, 5))):
        given[name], given[f"{name} weigh"] = torch.randn(shape) * 2 + 1, torch.randn(shape)
    valid = (torch.arange(4)[:, None] < given["lengths"])[..., None, None]
    given["padded weigh"] = given["padded weigh"] * valid
    torch.save(given, tmp_path / "given.pt")
    run_processes(ONE_OF_TWO, 2, tmp_path)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, axis in (("maps", 2), ("tokens", -1), ("padded", -1)):
        alone = BatchNorm(5, axis=axis)
        alone.load_state_dict(given["weights"])
        x = given[name].clone().requires_grad_()
        y, _ = neuro.run(alone, x, lengths=given["lengths"] if name == "padded" else None)
        (y * given[f"{name} weigh"]).sum().backward()
        (y0, gx0, gw0, gb0, *stats0), (y1, gx1, gw1, gb1, *stats1) = parts[0][name], parts[1][name]
        close = {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(torch.cat([y0, y1], 1), y.detach(), **close)
        torch.testing.assert_close(torch.cat([gx0, gx1], 1), x.grad, **close)
        torch.testing.assert_close(gw0 + gw1, alone.weight.grad, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(gb0 + gb1, alone.bias.grad, rtol=1e-5, atol=1e-4)
        for a, b, c in zip(stats0, stats1, (alone.running_mean, alone.running_var), strict=True):
            assert torch.equal(a, b)
            torch.testing.assert_close(a, c, **close)
