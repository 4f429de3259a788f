"""An update as a CUDA graph: recorded once, launched as a whole.

With networks of this size a GPU runs a kernel in a few microseconds, less than Python takes to
launch it, and an update has about a hundred of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from iqlft.algorithms.base import Algorithm, Metrics
    from iqlft.training.replay import Replay

_WARM_UP = 3
"""Updates before the recording, in which libraries choose their kernels and take their memory."""


class UpdateGraph:
    """An update of all members, given the places of its batch in the replay.

    The places are drawn on the CPU, as without a graph, so that a checkpoint continues either way.
    They are copied from pinned memory, so that Python can run ahead of the GPU.

    Args:
        algorithm: on a CUDA device, and one that `is_uniform`; the recording leaves it as it was.
        replay: on the same device.
        batch_size: B, transitions per member and update.
    """

    def __init__(self, algorithm: Algorithm[Any], replay: Replay, batch_size: int) -> None:
        self._algorithm, self._replay = algorithm, replay
        size = algorithm.num_members * batch_size
        self._places = torch.zeros(size, dtype=torch.int64, device=replay.device)
        states = [algorithm.state(member) for member in range(algorithm.num_members)]
        # A recording is made on a stream of the current device, which may not be the replay's.
        with torch.cuda.device(replay.device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP):
                    self._update()
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=side):
                self._result = self._update()
        for member, state in enumerate(states):
            algorithm.load_state(state, member)

    def update(self, places: Tensor) -> Metrics:
        """One update of every member.

        Args:
            places: `(M * B,)` int64 on the CPU, as `Replay.draw` gives them.

        Returns:
            The metrics, in tensors that the next update overwrites.
        """
        self._places.copy_(places.pin_memory(), non_blocking=True)
        with torch.cuda.device(self._places.device):
            self._graph.replay()
        self._algorithm.updates += 1
        return self._result

    def _update(self) -> Metrics:
        return self._algorithm.update(self._replay.gather(self._places))
