"""The replay: the dataset and every new transition in one block on the device.

    rows  [ dataset: N | member 0: C | member 1: C | ... ]

Members share the dataset and have C places each for their own transitions, a ring once full. A
batch is one gather from the block, whatever the mixture. Returns to go, where an algorithm needs
them, are a separate tensor computed here: they are never sent, and are computed again when the
journal restores the rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iqlft.algorithms.base import Batch
from iqlft.config.settings import OnlineConfig
from iqlft.datasets.value_bounds import Range, widened
from iqlft.training.returns import OpenEpisodes, dataset_returns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from iqlft_workers.transition import RowLayout, Transitions

_NO_RANGE = Range(math.inf, -math.inf)
"""The range of no numbers."""


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device; copied from pinned memory to a GPU, without waiting for it."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


class Replay:
    """Uniform sampling over a dataset and the new transitions of M members.

    Args:
        dataset: chunks of rows `(n, width)` float32; each is copied to the device as it arrives, so
            that the dataset need not fit into memory beside the block.
        dataset_size: N, the number of its rows.
        layout: columns of a row's fields.
        seeds: one per member; member m samples from its own random stream.
        capacity: C, places for new transitions per member; the oldest are overwritten when full.
        offline_ratio: None samples uniformly over the union of dataset and new transitions, as
            IQL's authors do; a share in [0, 1] fixes how much of a batch comes from the dataset.
        value_bounds: how far outside the dataset's rewards a new one may lie and still count in
            `rewards`, see `widened`; 0: any distance.
        device: where the block lives.

    Attributes:
        layout: see above.
        dataset_size: see above.
        capacity: see above.
        added: number of new transitions so far, per member.
        offline_ratio: see above; it may change from one batch to the next.
    """

    def __init__(
        self,
        dataset: Iterable[NDArray[np.float32]],
        dataset_size: int,
        layout: RowLayout,
        seeds: Sequence[int] = (0,),
        *,
        capacity: int = 0,
        offline_ratio: float | None = None,
        value_bounds: float = OnlineConfig.value_bounds,
        device: torch.device | str = "cpu",
    ) -> None:
        self.layout = layout
        self.dataset_size = dataset_size
        self.capacity = capacity
        self.added = [0] * len(seeds)
        self.offline_ratio = offline_ratio
        self._selected: Tensor | None = None
        self._returns: Tensor | None = None
        self._open: list[OpenEpisodes] = []
        shape = (self.dataset_size + capacity * len(seeds), layout.width)
        self._rows = torch.empty(shape, device=device)
        self._believed = Range(-math.inf, math.inf)
        self._rewards = [_NO_RANGE] * len(seeds)
        first = 0
        for chunk in dataset:
            for member in range(len(seeds)):
                self._observe_rewards(chunk, member)
            self._rows[first : first + len(chunk)] = torch.from_numpy(chunk)
            first += len(chunk)
        if first != dataset_size:
            raise ValueError(f"The dataset has {first} rows, but {dataset_size} were announced.")
        if value_bounds and dataset_size:
            self._believed = widened(self._rewards[0], value_bounds)
        # On the CPU wherever the block is, so that a checkpoint continues on any device. The seed
        # is scrambled, so that the stream is not the one that initialises the networks.
        self._generators = [
            torch.Generator().manual_seed((seed + 1) * 0x9E3779B1 % 2**63) for seed in seeds
        ]

    def select(self, places: Tensor) -> None:
        """Restricts draws from the dataset to these rows from now on."""
        self._selected = places.cpu()

    def compute_returns(self, discount: float) -> None:
        """Adds returns to go to batches from now on; to be called before transitions are added.

        Args:
            discount: gamma, of later rewards.
        """
        self._returns = self._rows.new_full((len(self._rows),), -math.inf)
        returns = dataset_returns(self.dataset_rows, self.layout, discount)
        self._returns[: self.dataset_size] = torch.from_numpy(returns)
        self._open = [OpenEpisodes(self.layout, discount) for _ in self.added]

    @property
    def dataset_rows(self) -> Tensor:
        """`(N, width)`: the dataset's part of the block."""
        return self._rows[: self.dataset_size]

    @property
    def device(self) -> torch.device:
        """Where the block lives."""
        return self._rows.device

    @property
    def num_bytes(self) -> int:
        """Memory that the block takes."""
        blocks = [self._rows] if self._returns is None else [self._rows, self._returns]
        return sum(each.numel() * each.element_size() for each in blocks)

    def new_size(self, member: int = 0) -> int:
        """Number of new transitions that can be sampled for a member."""
        return min(self.added[member], self.capacity)

    def add(self, transitions: Transitions, member: int = 0) -> None:
        """Appends new transitions of one member."""
        self.add_rows(self.layout.pack(transitions), member)

    def add_rows(self, rows: NDArray[np.float32], member: int = 0) -> None:
        """Appends rows of `(n, width)`; only the newest `capacity` of them are kept."""
        first = self.added[member]
        self.added[member] += len(rows)
        self._observe_rewards(rows, member)
        kept = torch.from_numpy(rows[-self.capacity :])
        places = self._places(
            torch.arange(self.added[member] - len(kept), first + len(rows)), member
        )
        self._rows[places] = on_device(kept, self.device)
        if self._returns is not None:
            self._returns[places] = -math.inf
            for episode in self._open[member].add(rows, first):
                present = episode.indices >= self.added[member] - self.capacity
                ended = self._places(torch.from_numpy(episode.indices[present]), member)
                returns = torch.from_numpy(episode.returns[present])
                self._returns[ended] = on_device(returns, self.device)

    def _places(self, indices: Tensor, member: int) -> Tensor:
        """Places in the block of a member's new transitions, by their indices since the start."""
        start = self.dataset_size + member * self.capacity
        return on_device(start + indices % self.capacity, self.device)

    def rewards(self, member: int = 0) -> Range:
        """Least and greatest reward of the dataset and of a member's new transitions so far.

        New rewards outside the value bounds do not count: by them, diverged critics would seem
        sound.
        """
        return self._rewards[member]

    def _observe_rewards(self, rows: NDArray[np.float32], member: int) -> None:
        rewards, before = self.layout.unpack(rows)[2], self._rewards[member]
        least, greatest = self._believed
        rewards = rewards[(rewards >= least) & (rewards <= greatest)]
        self._rewards[member] = Range(
            min(before.least, float(rewards.min(initial=math.inf))),
            max(before.greatest, float(rewards.max(initial=-math.inf))),
        )

    def sample(self, batch_size: int) -> Batch:
        """Draws a batch for every member from the union, or at the fixed ratio."""
        return self.gather(on_device(self.draw(batch_size), self.device))

    def draw(self, batch_size: int) -> Tensor:
        """`(M * B,)` int64 on the CPU: the places of a batch, member by member."""
        return torch.cat([self._union(member, batch_size) for member in range(len(self.added))])

    def gather(self, places: Tensor) -> Batch:
        """The transitions at places, a tensor on the block's device."""
        rows = self._rows.index_select(0, places).view(len(self.added), -1, self.layout.width)
        batch = Batch(*self.layout.unpack(rows)[:5])
        if self._returns is None:
            return batch
        returns = self._returns.index_select(0, places).view(len(self.added), -1)
        return batch._replace(returns_to_go=returns)

    def sample_part(self, batch_size: int, member: int = 0, *, new: bool) -> Batch:
        """Draws from the dataset alone or from a member's new transitions alone, for diagnostics.

        It uses its own random stream, so that it does not change what training samples. From the
        dataset it draws the same each time, so that figures change only with the networks.

        Returns:
            The same transitions for every member.
        """
        looking = torch.Generator().manual_seed(self.added[member] if new else 0)
        draw = self._new(member, batch_size, looking) if new else self._dataset(batch_size, looking)
        return self.gather(on_device(draw.repeat(len(self.added)), self.device))

    def _union(self, member: int, count: int) -> Tensor:
        generator, new_size = self._generators[member], self.new_size(member)
        if self.offline_ratio is not None and new_size:
            offline = round(count * self.offline_ratio)
            parts = self._dataset(offline, generator), self._new(member, count - offline, generator)
            return torch.cat(parts)
        size = self._offline_size
        places = self._randint(size + new_size, count, generator)
        new = places - size + self.dataset_size + member * self.capacity
        return torch.where(places < size, self._offline(places.clamp(max=size - 1)), new)

    @property
    def _offline_size(self) -> int:
        return self.dataset_size if self._selected is None else len(self._selected)

    def _offline(self, places: Tensor) -> Tensor:
        return places if self._selected is None else self._selected[places]

    def _dataset(self, count: int, generator: torch.Generator) -> Tensor:
        return self._offline(self._randint(self._offline_size, count, generator))

    def _new(self, member: int, count: int, generator: torch.Generator) -> Tensor:
        places = self._randint(self.new_size(member), count, generator)
        return places + self.dataset_size + member * self.capacity

    def _randint(self, high: int, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(high, (count,), generator=generator)

    def random_state(self, member: int = 0) -> Tensor:
        """uint8 `(bytes,)`: a member's random stream, for a checkpoint."""
        return self._generators[member].get_state()

    def set_random_state(self, state: Tensor, member: int = 0) -> None:
        """Restores `random_state()`."""
        self._generators[member].set_state(state.clone())
