"""A Ray cluster of several nodes on this machine, which does what the lines of its input say.

`remove` takes a node away, `behead` the head; the end of the input ends all of it.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

NODES = 2
"""Beside the head, where no worker has a place."""


def main() -> None:
    """Says its address when it is there, and `done` after each line."""
    quiet = {"include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **quiet})
    try:
        nodes = [cluster.add_node(num_cpus=2) for _ in range(NODES)]
        print(cluster.address, flush=True)  # noqa: T201
        for line in sys.stdin:
            node = nodes.pop() if line == "remove\n" else cluster.head_node
            cluster.remove_node(node, allow_graceful=False)
            print("done", flush=True)  # noqa: T201
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
