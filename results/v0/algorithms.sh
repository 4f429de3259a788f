#!/usr/bin/env bash
# Every algorithm on the maze with one corner, two seeds each; BC, AWAC and IQL are then fine-tuned.
# About half an hour on one core of an AMD EPYC, 4 MB; `results/keep.py` keeps the small files.
#
#     iqlft data make antmaze-corner --gait v0 --transitions 100000 && results/v0/algorithms.sh
set -euo pipefail
common="--threads 1 --eval-episodes 50 --log-every 500 --no-tensorboard --runs runs/algorithms"
offline="--task antmaze-corner --dataset iqlft/antmaze/corner-v0 --seeds 0 1 --num-updates 10000 --eval-every 1000 --checkpoint-every 10000"
for algorithm in iql onestep awac td3bc bc; do
    iqlft pretrain --algorithm $algorithm $offline $common
done
iqlft pretrain --algorithm bc --best-share 0.1 --name best-bc $offline $common
for algorithm in iql awac bc; do
    iqlft finetune runs/algorithms/antmaze-corner/$algorithm-s0 runs/algorithms/antmaze-corner/$algorithm-s1 \
        --workers 2 --env-steps 5000 --eval-every 1000 --checkpoint-every 5000 $common
done
