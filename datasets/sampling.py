"""Which samples come in which batch: a pure function of seed, epoch and batch number.

The sampler yields (epoch, index) pairs, so that a worker that lives through many epochs learns the epoch from the key
itself, and a run can go on from any batch of any epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuro.errors import ParameterError, StateError, explain

VERSION = 1  # of the state
SHUFFLING = 0x5AFF1E  # keeps the stream of permutations apart from those of the samples


class EpochBatches:
    """A batch sampler for `DataLoader(batch_sampler=...)`; yields lists of (epoch, index).

    The order of an epoch is the permutation drawn from (seed, epoch), the same on all ranks. It is cut into global
    batches of `batch_size * world` samples, and rank r takes every world-th sample of each from the r-th on. So the
    number of batches is the same on every rank, no sample comes twice, none is repeated as padding, and a whole global
    batch holds the same samples in however many ranks it is split. The rest at the end is dropped with `drop_last`;
    otherwise it is a smaller batch, or joins the batch before it where it has fewer than `world` samples (so that no
    rank gets an empty batch).

    `len()` counts the batches of a whole epoch on one rank, also where iteration starts at a later batch.

    Position: `epoch`, and `start_batch`, the first batch that the next iteration yields. Iterating moves neither, as a
    DataLoader asks for batches well before they are used; who consumes them says how far it came, with
    `state_dict(next_batch=...)`. `set_epoch` of another epoch starts that at batch 0; without `set_epoch`, or
    `load_state_dict`, each iteration gives the same batches.

    Raises:
        ParameterError: sizes below 1, a rank outside the world, or fewer samples than ranks.
        StateError: `load_state_dict` of a state that belongs to other samples, seed or batches.

    >>> [[index for _, index in batch] for batch in EpochBatches(5, 2, shuffle=False)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, n, batch_size, *, seed=0, shuffle=True, drop_last=False, rank=0, world=1):
        least = batch_size * world if drop_last else world
        if batch_size < 1 or world < 1 or not 0 <= rank < world or seed < 0 or n < least:
            raise ParameterError(
                explain(
                    "EpochBatches: cannot cut the samples into batches.",
                    f"n={n}   batch_size={batch_size}   rank={rank}   world={world}   drop_last={drop_last}   seed={seed}",
                    cure=f"Needs 0 <= rank < world, batch_size >= 1, seed >= 0, and here at least {least} samples.",
                )
            )
        self.n, self.batch_size, self.seed, self.shuffle = int(n), int(batch_size), int(seed), bool(shuffle)
        self.drop_last, self.rank, self.world = bool(drop_last), int(rank), int(world)
        self.epoch = self.start_batch = 0

    @property
    def sampler(self) -> EpochBatches:
        """Lightning calls `set_epoch` on the `sampler` of a batch sampler; here that is this object."""
        return self

    def __len__(self) -> int:
        whole, rest = divmod(self.n, self.batch_size * self.world)
        return whole + (rest >= self.world and not self.drop_last)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, size = self.order(), self.batch_size * self.world
        for number in range(self.start_batch, len(self)):
            last = number == len(self) - 1 and not self.drop_last
            batch = order[number * size : None if last else (number + 1) * size]
            yield [(self.epoch, int(index)) for index in batch[self.rank :: self.world]]

    def order(self) -> np.ndarray:
        """The permutation [n] of this epoch."""
        if not self.shuffle:
            return np.arange(self.n)
        return np.random.default_rng([self.seed, self.epoch, SHUFFLING]).permutation(self.n)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; stay where we are if it is the present one."""
        if epoch != self.epoch:
            self.epoch, self.start_batch = int(epoch), 0

    def state_dict(self, next_batch: int | None = None) -> dict:
        """Plain numbers from which `load_state_dict` goes on. `next_batch`: the first batch not yet used."""
        position = self.start_batch if next_batch is None else int(next_batch)
        return {"version": VERSION, "epoch": self.epoch, "next_batch": position, **self.identity()}

    def load_state_dict(self, state: dict) -> None:
        """Go on where `state` was taken. After the last batch of an epoch that is the start of the next one."""
        theirs = {key: state.get(key) for key in ("version", *self.identity())}
        ours = {"version": VERSION, **self.identity()}
        if theirs != ours:
            facts = [f"{key}: saved {theirs[key]}, here {ours[key]}" for key in ours if theirs[key] != ours[key]]
            cure = "Resume with the same data, seed, batch size and number of ranks."
            raise StateError(explain("EpochBatches: the state belongs to another order of samples.", *facts, cure=cure))
        epoch, batch = int(state["epoch"]), int(state["next_batch"])
        if epoch < 0 or not 0 <= batch <= len(self):
            raise StateError(
                explain("EpochBatches: no such position.", f"epoch={epoch}   next_batch={batch}   batches={len(self)}")
            )
        self.epoch, self.start_batch = (epoch + 1, 0) if batch == len(self) else (epoch, batch)

    def identity(self) -> dict:
        """What the order depends on. The rank is left out: one state serves all ranks."""
        names = ("n", "batch_size", "world", "seed", "shuffle", "drop_last")
        return {name: getattr(self, name) for name in names}
