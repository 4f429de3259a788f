#!/usr/bin/env bash
# The whole offline-to-online table of antmaze, from the data on: `bash results/table.sh`.
# Each line stands alone, and one that was interrupted goes on with `iqlft resume RUN`.
# Further seeds are `--seeds 1 2 3 4`: a process each on a CPU, one stack on a GPU.
set -euo pipefail

# Data: 1M transitions each by D4RL's procedure, 5 to 7 minutes on two cores each.
iqlft data make antmaze-large-play
iqlft data make antmaze-medium-play
iqlft data make antmaze-umaze
iqlft data make antmaze-medium-diverse
iqlft data make antmaze-large-diverse
iqlft data make antmaze-umaze-diverse

# Cells: 1M updates on the data, 1M environment steps with one update each, 100 evaluation episodes
# every 100k, by the settings of the paper: observations as they are. Hidden layers in bf16, as the rows here have.
iqlft run --task antmaze-large-play --seeds 0 --precision bf16
iqlft run --task antmaze-medium-play --seeds 0 --precision bf16
iqlft run --task antmaze-umaze --seeds 0 --precision bf16
iqlft run --task antmaze-medium-diverse --seeds 0 --precision bf16
iqlft run --task antmaze-large-diverse --seeds 0 --precision bf16
iqlft run --task antmaze-umaze-diverse --seeds 0 --precision bf16

# The table and its figures.
iqlft table
iqlft plot
