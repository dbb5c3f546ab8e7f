"""Products driven by events under DistributedDataParallel: two processes get the gradients that one gets on the joined batch."""

import torch

import neuro
from neuro.kernels import choosing

NETWORK = """
neuro.layers.Sequential(
    neuro.layers.Conv2d(2, 16, 3, padding=1), neuro.neurons.LIF(threshold=0.05), neuro.layers.Conv2d(16, 16, 3, stride=2), neuro.neurons.LIF(threshold=0.05),
    neuro.layers.Flatten(), neuro.layers.Linear(144, 20), neuro.neurons.PLIF(threshold=0.05), neuro.layers.Linear(20, 5),
)
"""
ONE_OF_TWO = f"""
import gc, sys, torch, neuro
from neuro.kernels import choosing, spike_conv, spike_linear

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{{folder}}/rendezvous", rank=rank, world_size=2)
given = torch.load(f"{{folder}}/given.pt", weights_only=True)
model = {NETWORK.strip()}
if rank == 0:
    model.load_state_dict(given["weights"])
wrapped = torch.nn.parallel.DistributedDataParallel(model)
by_events, real = [], dict(conv=spike_conv._SpikeConv.apply, linear=spike_linear._SpikeLinear.apply)
spike_conv._SpikeConv.apply = lambda *a: (by_events.append("conv"), real["conv"](*a))[1]
spike_linear._SpikeLinear.apply = lambda *a: (by_events.append("linear"), real["linear"](*a))[1]
with choosing.deterministic("events"):
    for _ in range(2):  # gradients add up, as over two parts of a batch
        y = wrapped(given["x"][:, 3 * rank : 3 * rank + 3])
        y.square().mean().backward()
grads = {{name: p.grad for name, p in model.named_parameters()}}
torch.save({{"y": y.detach(), "grads": grads, "by_events": by_events}}, f"{{folder}}/{{rank}}.pt")
torch.distributed.barrier()  # neither leaves while the other still needs it
del wrapped  # it holds the process group, whose threads must have ended before the process does,
gc.collect()  # and is held by itself
torch.distributed.destroy_process_group()
"""


def test_two_processes_equal_one_on_the_joined_batch(tmp_path, run_processes):
    model = eval(NETWORK.strip(), {"neuro": neuro})
    x = (torch.rand(4, 6, 2, 7, 7) < 0.3).float()
    torch.save({"weights": model.state_dict(), "x": x}, tmp_path / "given.pt")
    run_processes(ONE_OF_TWO, 2, tmp_path)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    with choosing.deterministic("events"):
        y = model(x)
        (2 * y.square().mean()).backward()
    assert y.std() > 0
    torch.testing.assert_close(torch.cat([part["y"] for part in parts], 1), y.detach())
    for part in parts:
        assert part["by_events"] == ["conv", "conv", "linear", "linear"] * 2
        for name, p in model.named_parameters():
            scale = p.grad.abs().max()
            assert scale > 0, name
            torch.testing.assert_close(part["grads"][name] / scale, p.grad / scale, rtol=0, atol=1e-5)
    for name, grad in parts[0]["grads"].items():
        assert torch.equal(grad, parts[1]["grads"][name])


def test_dense_and_driven_by_events_agree_here():
    """So that the test above compares more than zeros: both forms give these gradients."""
    model, x, found = eval(NETWORK.strip(), {"neuro": neuro}), (torch.rand(4, 6, 2, 7, 7) < 0.3).float(), []
    for form in ("dense", "events"):
        with choosing.deterministic(form):
            loss = model(x).square().mean()
            found.append(torch.autograd.grad(loss, list(model.parameters())))
    for dense, events in zip(*found, strict=True):
        assert dense.abs().max() > 0
        torch.testing.assert_close(events / dense.abs().max(), dense / dense.abs().max(), rtol=0, atol=1e-5)
