"""Records a set of the form of the official AntMaze sets, walked by the gait of v0.

python results/v0/data/official/record.py D4RL/antmaze/medium-play-v1
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import gymnasium

sys.path.append(str(Path(__file__).parents[4] / "tests"))

from iqlft.datasets.antmaze.gait import GAITS, load_gait
from iqlft_workers.registration import any_version
from recorded_episodes import walk_stock_ant
from recording import ANTMAZE_SETS, record_antmaze

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("dataset", choices=ANTMAZE_SETS)
parser.add_argument("--transitions", type=int, default=1_000_000)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
with any_version():
    steps = gymnasium.spec(ANTMAZE_SETS[options.dataset].environment_id).max_episode_steps
record_antmaze(
    options.dataset,
    episodes=max(1, options.transitions // steps),
    seed=options.seed,
    policy=partial(walk_stock_ant, gait=load_gait(GAITS["v0"])),
)
