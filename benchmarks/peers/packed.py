"""The peers' random data as rows, for those that learn from this repository's replay."""

import numpy as np
import peer
from measuring import LAYOUT

from iqlft_workers.transition import Transitions


def packed() -> np.ndarray:
    """Rows `(N, width)`."""
    data = peer.random_data()
    never = np.zeros(len(data.rewards), bool)
    fields = data._replace(terminated=data.terminated > 0)
    return LAYOUT.pack(Transitions(*fields, never, never.astype(np.uint32)))
