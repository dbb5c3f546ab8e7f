"""Train a model on data, in a run folder that can be gone on with at any time."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from neuro.errors import ParameterError, explain
from neuro.files import clear_leftovers
from neuro.kernels import choosing
from neuro.training.checkpoints import Keeper, WholeCheckpoints
from neuro.training.fingerprint import check_data
from neuro.training.module import Classifier
from neuro.training.position import Positioned
from neuro.training.preprocess import Preprocess, PreprocessArray
from neuro.training.quiet import Bar, Lines, quiet
from neuro.training.ranks import launch, stopping
from neuro.training.runs import Run
from neuro.training.schedule import Plan
from neuro.training.scores import Scores, answers, scores
from neuro.training.threads import MOST
from neuro.training.weights import how_made, load_weights, save_model

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What training reached. Accuracies are fractions; those of validation are None without validation recordings."""

    run: Run
    epochs: int
    steps: int
    seconds: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    scores: Scores | None  # of the saved model on the validation recordings

    def summary(self) -> str:
        """One line."""
        val = "" if self.val_accuracy is None else f", validation accuracy {self.val_accuracy:.4f}"
        took = f"{self.epochs} epochs, {self.steps} steps, {self.seconds / 60:.1f} min"
        return f"trained {took}: training accuracy {self.train_accuracy:.4f}{val}; saved in {self.run.folder}"


def fit(
    model: nn.Module,
    data: Any,
    run: Run,
    epochs: int,
    lr: float = 1e-3,
    *,
    weight_decay: float = 0.01,
    warmup: float = 0.05,
    clip: float = 1.0,
    loss: Loss | None = None,
    patience: int = 0,
    keep_best: bool = False,
    stop_after: int = 0,
    devices: int = 1,
    accelerator: str = "auto",
    precision: str = "32-true",
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    checkpoint_batches: int = 0,
    look_every: int = 10,
    progress: bool = True,
    report: bool = True,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Fitted:
    """Train `model` on `data` and leave the result in the folder of `run`.

    Args:
        model: [T, B, ...] -> logits [B, classes], or [T, B, classes] with a label for each step, made by a registered function (see `neuro.models.register`).
        data: an `EventDataModule`, an `ArrayDataModule`, or any object with `train_dataloader` and perhaps `val_dataloader`; with `classes`,
            and `frames` and `sensor` for the preprocessing that is saved with the model.
        run: from `Run.create`; its seed rules every draw of training.
        epochs, lr, weight_decay, warmup, clip, patience, keep_best, stop_after, look_every: see `neuro.training.schedule.Plan`.
        loss: `(logits, label) -> scalar`; default cross entropy.
        devices: processes, each with batches of its own; BatchNorm and figures are joined over them.
        accelerator, precision: as Lightning's Trainer.
        resume: go on from the run's last checkpoint, if there is one, with the same steps as if it had never stopped.
        checkpoint_seconds, checkpoint_batches: time or batches between checkpoints, besides one at each epoch's end.
        progress: show a bar on a terminal, else a line per epoch.
        report: draw report.html at the end.
        on_epoch: called with each row of metrics (a dict), in the process of rank zero.

    Raises:
        FormatError: the checkpoint is damaged or of another model.
        ParameterError: options outside their range, or going on with other recordings or batches than it began with.
        TrainingError: losses or weights are no longer finite; no model is written.
        WriteError: the disk is full; the last checkpoint still stands.
        KeyboardInterrupt: after Ctrl-C; the run can be resumed.
    """
    if (patience or keep_best) and not _has_val(data):
        facts, cure = f"patience={patience}   keep_best={keep_best}", "Give data with validation recordings, or leave these options out."
        raise ParameterError(explain("fit: there are no validation recordings to stop or to choose by.", facts, cure=cure))
    if not 1 <= devices <= MOST:
        raise ParameterError(explain(f"fit: devices={devices} is not a number of processes.", cure=f"Give 1 .. {MOST}; on a CPU more than there are free cores are slower."))
    how_made(model, "fit")  # now, not when hours of training are to be saved
    if any(p.dtype == torch.float64 for p in model.parameters()):
        raise ParameterError(explain("fit: the model's weights are float64, and batches are float32.", cure="model.float()"))
    check_data(run, data, resume)
    if resume and run.finished and run.metrics.rows():
        return _fitted(run, _classified(model, data, run, load=True))
    plan = Plan(epochs, lr, weight_decay, warmup, clip, patience, keep_best, look_every, stop_after)
    keeper = Keeper(run.checkpoint, checkpoint_seconds, checkpoint_batches, (run.metrics, run.layers))
    if run.is_rank_zero:
        clear_leftovers(run.checkpoint)
    said = _both(Lines(epochs) if progress else None, on_epoch)
    module = Classifier(model, run, plan, loss=loss or nn.CrossEntropyLoss(), keeper=keeper, on_epoch=said)
    if resume and run.checkpoint.exists():
        module.restore(WholeCheckpoints().load_checkpoint(run.checkpoint), run.checkpoint)
    elif run.is_rank_zero:
        run.metrics.cut(0)
        run.layers.cut(0)
        run.checkpoint.unlink(missing_ok=True)
    if not module.done:
        task = partial(_train, module, data, module.plan.last - module.epoch, devices, accelerator, precision, progress)
        if devices > 1 and not _launched():
            _train_in_processes(devices, task, module)
        else:
            task()
    if keep_best and (run.best / "model.safetensors").exists():
        load_weights(model, run.best / "model.safetensors")
    result = _fitted(run, _classified(model, data, run))
    if run.is_rank_zero:
        _save(model, data, run, result)
        if report:
            from neuro.run_report import describe_run  # loads matplotlib

            describe_run(run.folder).save(run.folder / "report.html")
    return result


def _train(module: Classifier, data: Any, epochs: int, devices: int, accelerator: str, precision: str, progress: bool) -> None:
    products = choosing.kept_in(module.run.folder / "products.json", write=module.run.is_rank_zero)
    with products, _lightning_hushed(), stopping() if _strategy() == "ddp" else nullcontext():
        bar = progress and sys.stderr.isatty()
        trainer = _trainer(
            max_epochs=epochs,
            accelerator=accelerator,
            devices=devices,
            strategy=_strategy(),
            precision=precision,
            plugins=[WholeCheckpoints()],
            callbacks=[Bar(module.plan.epochs)] if bar else [],
            gradient_clip_val=module.plan.clip or None,
            reload_dataloaders_every_n_epochs=1,  # so that a first epoch may be shorter, see Positioned
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if _has_val(data) else 0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=bar,
        )
        module.train()
        try:
            trainer.fit(module, datamodule=Positioned(data, module))
        except SystemExit as stop:
            if trainer.interrupted and stop.code == 1:  # Lightning ends the process on Ctrl-C; we leave that to the caller
                raise KeyboardInterrupt from None
            raise
        finally:
            data.trainer = None
            gc.collect()  # ends the loaders' processes now: a loader finalised in a process forked later complains


def _trainer(**how: Any) -> lightning.Trainer:
    """Lightning's, or a sentence where it does not take the machine that is asked for."""
    try:
        return lightning.Trainer(**how)
    except (ValueError, RuntimeError, lightning.fabric.utilities.exceptions.MisconfigurationException) as error:
        asked = "   ".join(f"{name}={how[name]!r}" for name in ("accelerator", "devices", "precision"))
        raise ParameterError(explain("fit: this machine or Lightning does not take what is asked for.", asked, str(error), cure='accelerator="auto" takes what is there.')) from error


def _train_in_processes(devices: int, task: Callable[[], None], module: Classifier) -> None:
    """Train in processes of our own, and take what they reached from their last checkpoint."""
    asked = launch(devices, task)
    path = module.run.checkpoint
    if path.exists():
        module.restore(WholeCheckpoints().load_checkpoint(path), path)
    if asked or not module.done:
        raise KeyboardInterrupt


def _launched() -> bool:
    """Whether this process is one of several that torchrun, a cluster's launcher or we have started."""
    return "LOCAL_RANK" in os.environ or "SLURM_PROCID" in os.environ


def _strategy() -> str:
    return "ddp" if _launched() and int(os.environ.get("WORLD_SIZE", "1")) > 1 else "auto"


def _has_val(data: Any) -> bool:
    if hasattr(data, "sets"):
        return data.sets.get("val") is not None
    return hasattr(data, "val_dataloader")


def _classified(model: nn.Module, data: Any, run: Run, load: bool = False) -> Scores | None:
    if load:
        load_weights(model, run.weights)
    if not _has_val(data) or not run.is_rank_zero:
        return None
    labels, logits = answers(model, data.val_dataloader())
    names = tuple(getattr(data, "classes", ())) or tuple(str(i) for i in range(logits.shape[1]))
    return scores(labels.tolist(), logits.argmax(1).tolist(), names)


def _fitted(run: Run, found: Scores | None) -> Fitted:
    rows = run.metrics.rows()
    last = {k: float(v) for k, v in rows[-1].items() if v}
    seconds = sum(float(row["seconds"]) for row in rows)
    return Fitted(
        run, len(rows), int(last["step"]), seconds, last["train_loss"], last["train_accuracy"], last.get("val_loss"),
        None if found is None else found.accuracy, found,
    )  # fmt: skip


def _save(model: nn.Module, data: Any, run: Run, result: Fitted) -> None:
    """The model with what is needed to use it, and its figures per class."""
    frames, sensor = getattr(data, "frames", None), getattr(data, "sensor", None) or _sensor(data)
    preprocess = Preprocess(frames, sensor) if frames is not None and sensor is not None else None
    if getattr(data, "encode", None) is not None:
        preprocess = PreprocessArray(data.encode)
    figures = {k: getattr(result, k) for k in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "epochs", "steps", "seconds")}
    if result.scores is not None:
        result.scores.write(run.folder)
    save_model(model, run.folder, classes=getattr(data, "classes", ()), preprocess=preprocess, metrics=figures)


def _sensor(data: Any) -> Any:
    """The sensor of the first training recording."""
    train = getattr(data, "sets", {}).get("train")
    return getattr(train[0], "sensor", None) if train is not None and len(train) else None


class _both:
    """Call several observers with each row; a class, so that spawned processes can be given it."""

    def __init__(self, *observers: Callable[[dict[str, Any]], None] | None):
        self.observers = [o for o in observers if o is not None]

    def __call__(self, row: dict[str, Any]) -> None:
        for observer in self.observers:
            observer(row)


@contextmanager
def _lightning_hushed() -> Iterator[None]:
    """Without Lightning's chatter, and with Ctrl-C working again afterwards."""
    main = threading.current_thread() is threading.main_thread()
    on_interrupt = signal.getsignal(signal.SIGINT) if main else None
    try:
        with warnings.catch_warnings():
            quiet()
            yield
    finally:
        if main:
            signal.signal(signal.SIGINT, on_interrupt)
