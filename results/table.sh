#!/usr/bin/env bash
# The whole offline-to-online table of antmaze, from the data on: `bash results/table.sh`.
# Each line stands alone, and one that was interrupted goes on with `iqlft resume RUN...`.
# A single seed: `--seeds 0 --workers 2`; five seeds want a GPU.
set -euo pipefail

# Data: 1M transitions each by D4RL's procedure, 5 to 7 minutes a core and set.
iqlft data make antmaze-umaze --processes 8
iqlft data make antmaze-umaze-diverse --processes 8
iqlft data make antmaze-medium-play --processes 8
iqlft data make antmaze-medium-diverse --processes 8
iqlft data make antmaze-large-play --processes 8
iqlft data make antmaze-large-diverse --processes 8

# Cells: 1M updates on the data, 1M environment steps with one update each, 100 evaluation episodes
# every 100k. Observations are normalised, as in CORL's rows.
iqlft run --task antmaze-medium-play --normalize-observations --seeds 0 1 2 3 4 --workers 10
iqlft run --task antmaze-large-play --normalize-observations --seeds 0 1 2 3 4 --workers 10
iqlft run --task antmaze-umaze --normalize-observations --seeds 0 1 2 3 4 --workers 10
iqlft run --task antmaze-medium-diverse --normalize-observations --seeds 0 1 2 3 4 --workers 10
iqlft run --task antmaze-large-diverse --normalize-observations --seeds 0 1 2 3 4 --workers 10
iqlft run --task antmaze-umaze-diverse --normalize-observations --seeds 0 1 2 3 4 --workers 10

# The table and its figures.
iqlft table
iqlft plot
