"""A model in training: its steps, its figures, and everything that a resumed run needs to go on from."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import lightning
import torch
import torch.distributed as dist
from torch import Tensor, nn

from neuro.errors import FormatError, NeuroError, ParameterError, explain
from neuro.files import check_format
from neuro.state import run as run_model
from neuro.training.checkpoints import Keeper
from neuro.training.ranks import stop_wanted
from neuro.training.runs import Run
from neuro.training.schedule import Plan, groups, mixed
from neuro.training.scores import one_each
from neuro.training.watch import Layer, Watch
from neuro.training.weights import fill, refuse_other, save_model

FORMAT, VERSION = "neuro-checkpoint", 1
LONG_SILENT = 50  # steps after which a silent layer is worth a warning


class TrainingWarning(UserWarning):
    """Training goes on, but not well."""


class TrainingError(NeuroError, ArithmeticError):
    """Training cannot go on: its numbers are no longer finite."""


class Classifier(lightning.LightningModule):
    """Trains `model` to give the label of each `Batch`.

    Position, sums and the best value are attributes of this module, kept in the checkpoint; each step is a function of
    (weights, optimizer, batch, seed, step), so a resumed run takes the same steps.

    Args:
        model: [T, B, ...] -> logits [B, classes], or [T, B, classes] with a label for each step.
        run: where rows and checkpoints go.
        plan: how to train.
        loss: `(logits, label) -> scalar`, a mean over the batch.
        keeper: writes the checkpoints.
        on_epoch: called on rank zero with each row of metrics, e.g. to show it.
    """

    def __init__(
        self,
        model: nn.Module,
        run: Run,
        plan: Plan,
        *,
        loss: Callable[[Tensor, Tensor], Tensor],
        keeper: Keeper,
        on_epoch: Callable[[dict[str, Any]], None] | None = None,
    ):
        super().__init__()
        self.model, self.run, self.plan, self.loss, self.keeper, self.on_epoch = model, run, plan, loss, keeper, on_epoch
        self.seed = run.seed
        self.epoch = self.batch = self.step = 0  # what comes next
        self.batches = 0  # of an epoch
        self.resumed_batches: int | None = None  # those of the checkpoint, until the loader is known
        self.elapsed = 0.0  # seconds of this epoch before the present start
        self.sums, self.val_sums = _zeros(), _zeros()  # loss, right answers, recordings
        self.best, self.stale, self.stopped = float("inf"), 0, False
        self.silent: dict[str, tuple[int, bool]] = {}  # silent layer -> since which step, and whether we said so
        self.given_optimizer: dict[str, Any] | None = None  # from a checkpoint, until the optimizer exists
        self.watch: Watch | None = None
        self.shown: Tensor | None = None  # the last loss, for the progress bar

    # --- steps ---

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups(self.model, self.plan.weight_decay), lr=self.plan.lr)

    def on_train_start(self) -> None:
        if self.given_optimizer is not None:
            self.optimizers(use_pl_optimizer=False).load_state_dict(self.given_optimizer)
            self.given_optimizer = None
        self._refuse_other_batches()
        if not self.trainer.is_global_zero:
            self.sums = _zeros()  # those of a checkpoint are of all processes
        self.began = time.monotonic()
        self.keeper.start()
        if stop_wanted():
            raise KeyboardInterrupt

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(mixed(self.seed, self.step, self.global_rank))
        for group in self.optimizers(use_pl_optimizer=False).param_groups:
            group["lr"] = self.plan.rate(self.step, self.plan.epochs * self.batches)
        if self.step % self.plan.look_every == 0:
            self.watch = Watch(self.model).__enter__()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, figures = self._judge(batch)
        self.sums = self.sums.to(figures.device) + figures
        self.shown = loss.detach()
        return loss * self._weight(batch[0].shape[1], loss.device)

    def _weight(self, n: int, device: torch.device) -> float | Tensor:
        """n * processes / all: gradients are averaged over processes, but a last batch need not be shared out evenly."""
        if self.trainer.world_size == 1:
            return 1.0
        every = torch.tensor(float(n), device=device)
        dist.all_reduce(every)
        return n * self.trainer.world_size / every

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.step, self.batch = self.step + 1, self.batch + 1
        if self.watch is not None:
            self.watch.__exit__(None, None, None)
            self._report(self.watch.layers())
            self.watch = None
        if self.batch == self.batches:  # the end of the epoch writes its own checkpoint
            return
        stop = stop_wanted()
        if self.keeper.due(self.trainer) or stop:
            self.keeper.save(self.trainer, self.state())
        if stop:
            raise KeyboardInterrupt

    def on_validation_epoch_start(self) -> None:
        self.val_sums = _zeros()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        figures = self._judge(batch)[1]
        self.val_sums = self.val_sums.to(figures.device) + figures

    def on_train_epoch_end(self) -> None:
        train, val = _joined(self.sums), _joined(self.val_sums)
        self._refuse_nan(train)
        now = time.monotonic()
        row = {
            "epoch": self.epoch + 1,
            "step": self.step,
            "seconds": self.elapsed + now - self.began,
            "lr": self.plan.rate(self.step - 1, self.plan.epochs * self.batches),
            **_means("train", train),
            **_means("val", val),
        }
        self.epoch, self.batch, self.elapsed, self.began, self.sums = self.epoch + 1, 0, 0.0, now, _zeros()
        self._compare(row.get("val_loss"))
        if self.trainer.is_global_zero:
            self.run.metrics.append(row)
            if self.on_epoch:
                self.on_epoch(row)
        self.keeper.save(self.trainer, self.state())
        self.trainer.should_stop |= self.stopped
        if not self.done and stop_wanted():
            raise KeyboardInterrupt

    def _judge(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Loss of a batch, and (sum of losses, right answers, recordings) as numbers to add up."""
        x, lengths, label = batch
        whole = bool((lengths == x.shape[0]).all())
        logits, _ = run_model(self.model, x, lengths=None if whole else lengths)
        logits, label = one_each(logits, label, None if whole else lengths)
        if self.step == 0 and not label.is_floating_point() and (most := int(label.max())) >= logits.shape[-1]:  # once: it waits for a GPU
            raise ParameterError(explain("fit: the model gives fewer classes than there are.", f"answers {logits.shape[-1]}   labels up to {most}", cure="Make it with as many classes as the data have."))
        loss = self.loss(logits, label)
        hard = label.argmax(-1) if label.is_floating_point() else label  # of a mixture, its larger part
        right = (logits.detach().argmax(-1) == hard).sum()
        n = torch.tensor(len(label), device=loss.device)
        return loss, torch.stack([loss.detach() * n, right, n]).to(_zeros().dtype)

    def _compare(self, val_loss: float | None) -> None:
        if val_loss is None:
            return
        better = val_loss < self.best
        self.best, self.stale = (val_loss, 0) if better else (self.best, self.stale + 1)
        self.stopped = 0 < self.plan.patience <= self.stale
        if better and self.plan.keep_best and self.trainer.is_global_zero:
            save_model(self.model, self.run.best)

    def _report(self, layers: list[Layer]) -> None:
        """Write a look at the layers, and warn of those that stay silent."""
        if not self.trainer.is_global_zero:
            return
        self.run.layers.append(*({"step": self.step, **layer._asdict(), "layer": layer.name} for layer in layers))
        for layer in layers:
            since, warned = self.silent.get(layer.name, (self.step, False))
            if layer.rate > 0:
                self.silent.pop(layer.name, None)
                continue
            late = self.step - since >= LONG_SILENT
            self.silent[layer.name] = (since, warned or late)
            if late and not warned:
                cure = "Lower its threshold, put a BatchNorm before it, or raise the weights or the input that reach it."
                fact = f"no spike at any look since step {since}, and no gradient reaches what lies before it"
                message = explain(f"layer {layer.name!r} has not fired for {LONG_SILENT} steps.", fact, cure=cure)
                warnings.warn(message, TrainingWarning, stacklevel=2)

    # --- going on ---

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, as tensors and plain values."""
        sums = _joined(self.sums)
        self._refuse_nan(sums)
        return {
            "format": FORMAT, "version": VERSION, "name": self.model_name,
            "model": self.model.state_dict(), "optimizer": self.optimizers(use_pl_optimizer=False).state_dict(),
            "epoch": self.epoch, "batch": self.batch, "step": self.step, "epochs": self.plan.epochs, "batches": self.batches,
            "elapsed": self.elapsed + time.monotonic() - self.began, "sums": sums,
            "best": self.best, "stale": self.stale, "stopped": self.stopped, "silent": dict(self.silent),
        }  # fmt: skip

    def restore(self, state: dict[str, Any], path: Any) -> None:
        """Go on where `state`, read from `path`, was taken. Rows that were written after it are dropped."""
        check_format(path, state, FORMAT, VERSION)
        if state["epochs"] != self.plan.epochs:
            facts = f"epochs: {state['epochs']} then, {self.plan.epochs} now"
            raise FormatError(explain(f"{path} belongs to another plan.", facts, cure="The learning rate depends on it."))
        fill(self.model, state["model"], path, self.model_name, state["name"])
        refuse_other(path, self.model_name, state["name"])
        for key in ("epoch", "batch", "step", "elapsed", "best", "stale", "stopped"):
            setattr(self, key, state[key])
        self.silent, self.given_optimizer = dict(state["silent"]), state["optimizer"]
        self.sums, self.batches = state["sums"], state["batches"]
        self.resumed_batches = state["batches"]
        for table in (self.run.metrics, self.run.layers):
            if self.run.is_rank_zero:
                table.cut(self.step)

    def _refuse_other_batches(self) -> None:
        """Batches cut otherwise would repeat or leave out recordings, and bend the course of the learning rate."""
        then, self.resumed_batches = self.resumed_batches, None
        if then not in (None, 0, self.batches):
            facts = f"batches of an epoch: {then} then, {self.batches} now, in {self.trainer.world_size} processes"
            cure = "Resume with the same recordings and the same number of devices."
            raise ParameterError(explain(f"the run in {self.run.folder} cannot go on with these batches.", facts, cure=cure))

    def _refuse_nan(self, sums: Tensor) -> None:
        """Stop on a loss or weights that are not finite; joined over processes, so all of them stop at once."""
        bad = [name for name, p in self.model.named_parameters() if not bool(torch.isfinite(p).all())]
        if bad or not bool(torch.isfinite(sums[0])):
            facts = f"epoch {self.epoch + 1}, up to step {self.step}; sum of losses {float(sums[0])}"
            where = f"{len(bad)} parameters are not finite: {', '.join(bad[:4])}" if bad else ""
            cure = "Lower lr, or look for values in the input that are not finite. The last checkpoint, if any, is from before."
            raise TrainingError(explain("training has diverged.", facts, where, cure=cure))

    @property
    def done(self) -> bool:
        """Whether all epochs were trained, or as many as `patience` allows."""
        return self.epoch >= self.plan.last or self.stopped

    @property
    def model_name(self) -> str:
        made = getattr(self.model, "registered", None)
        return made.name if made else type(self.model).__name__


def _zeros() -> Tensor:
    return torch.zeros(3, dtype=torch.float64)


def _joined(sums: Tensor) -> Tensor:
    """The sums over all processes of a distributed run."""
    if not (dist.is_available() and dist.is_initialized()):
        return sums.clone()
    on = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    sums = sums.to(on, copy=True)
    dist.all_reduce(sums)
    return sums.cpu()


def _means(part: str, sums: Tensor) -> dict[str, float]:
    loss, right, n = sums.tolist()
    return {f"{part}_loss": loss / n, f"{part}_accuracy": right / n} if n else {}
