#!/usr/bin/env bash
# The first columns of the paper's offline table on v1 data, 200k of its 1M updates: two tasks, two seeds, 100 episodes,
# observations as each algorithm's settings have them. About eight hours on one core of an AMD EPYC beside another run.
#
#     for task in umaze medium-play; do iqlft data make antmaze-$task; done
#     bash results/offline.sh
#     python results/keep.py results/offline runs/offline/*/*
#     iqlft table results/offline --style markdown --out results/offline/table.md
set -euo pipefail
for task in antmaze-umaze antmaze-medium-play; do
  pretrain="iqlft pretrain --task $task --seeds 0 1 --precision bf16 --num-updates 200000 --eval-every 100000 \
    --checkpoint-every 25000 --no-tensorboard --runs runs/offline"
  for algorithm in bc onestep td3bc awac; do $pretrain --algorithm $algorithm; done
  $pretrain --algorithm bc --best-share 0.1
  # The best tenth as CORL chooses it, see results/offline/README.md.
  iqlft pretrain --task $task --seed 0 --algorithm bc --best-share 0.1 --best-discount 0.99 --name discounted --precision bf16 \
    --num-updates 20000 --eval-every 10000 --checkpoint-every 10000 --no-tensorboard --runs runs/offline
done
