#!/usr/bin/env bash
# Fine-tuning by several algorithms and switches on umaze (v1 data), at a length that two cores allow: 100k updates on the
# data, then 25k environment steps with one update each, 60 evaluation episodes every 5k. `results/keep.py` keeps the
# small files; `python results/switch.py` makes the table of them.
#
#     iqlft data make antmaze-umaze && bash results/algorithms.sh [SEED]
set -euo pipefail
seed=${1:-0}
common="--precision bf16 --eval-episodes 60 --no-tensorboard --runs runs/algorithms"
offline="--task antmaze-umaze --seed $seed --num-updates 100000 --eval-every 25000 --checkpoint-every 25000 $common"
online="--workers 2 --env-steps 25000 --eval-every 5000 --checkpoint-every 25000 $common"
# The RLPD of the FQL paper, with networks of the size of IQL's: 512 x 4 would take ten times as long.
rlpd="--critic-updates 1 --num-critics 2 --num-target-critics 0 --target-reduction mean --hidden-size 256 --hidden-layers 2"
run=runs/algorithms/antmaze-umaze

iqlft pretrain --algorithm iql $offline
iqlft finetune $run/iql-s$seed --into iql-online $online
iqlft finetune $run/iql-s$seed --into iql-half --offline-ratio 0.5 $online
iqlft finetune $run/iql-s$seed --into iql-guide --guide-steps 200 --guide-until 20000 $online
iqlft finetune $run/iql-s$seed --into iql-rlpd --algorithm rlpd $rlpd --offline-ratio 0.5 $online
iqlft run --task antmaze-umaze --seed $seed --algorithm rlpd $rlpd --num-updates 0 --offline-ratio 0.5 --random-steps 5000 \
  --warmup-steps 5000 --name rlpd-online $online
iqlft pretrain --algorithm awac $offline
iqlft finetune $run/awac-s$seed --into awac-online $online
