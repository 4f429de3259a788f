#!/usr/bin/env bash
# What some choices are worth, on umaze at reduced length: `bash results/v0/ablations.sh`. 200k updates on the data, then
# 30k environment steps with one update each, 50 evaluation episodes every 5k; two seeds.
set -euo pipefail
pretrain=(--task antmaze-umaze --dataset iqlft/antmaze/umaze-v0 --runs runs-ablations --seeds 0 1 --num-updates 200000 --eval-every 50000)
online=(--env-steps 30000 --eval-every 5000 --eval-episodes 50 --precision bf16)
base=(runs-ablations/antmaze-umaze/iql-s0 runs-ablations/antmaze-umaze/iql-s1)

iqlft data make antmaze-umaze --gait v0 --processes 2
iqlft pretrain "${pretrain[@]}" --normalize-observations

# The replay: uniform over dataset and new transitions, or half of each batch from either.
iqlft finetune "${base[@]}" --into union --workers 4 "${online[@]}"
iqlft finetune "${base[@]}" --into half --workers 4 --offline-ratio 0.5 "${online[@]}"

# What the new transitions are worth: workers step as always, but every batch is from the dataset.
iqlft finetune "${base[@]}" --into dataset-only --workers 4 --offline-ratio 1 "${online[@]}"

# Policy lag: none at all; weights that go out a hundred times less often; eight workers a seed, not two.
iqlft finetune "${base[@]}" --into lockstep --workers 1 --lockstep "${online[@]}"
iqlft finetune "${base[@]}" --into stale --workers 4 --publish-every 1000 "${online[@]}"
iqlft finetune "${base[@]}" --into eight-workers --workers 16 "${online[@]}"

# The actor's learning rate: CORL's cosine, which reaches 0 at the end of the data and climbs back.
iqlft pretrain "${pretrain[@]}" --normalize-observations --actor-schedule climbing-cosine --name cosine
iqlft finetune runs-ablations/antmaze-umaze/cosine-s{0,1} --workers 4 "${online[@]}"

# Observations as they are.
iqlft pretrain "${pretrain[@]}" --name raw-observations
iqlft finetune runs-ablations/antmaze-umaze/raw-observations-s{0,1} --workers 4 "${online[@]}"

# Behaviour cloning, which is what remains of IQL at an inverse temperature of 0.
iqlft pretrain --task antmaze-umaze --dataset iqlft/antmaze/umaze-v0 --runs runs-cloning --name cloning \
  --num-updates 40000 --eval-every 10000 --normalize-observations --inverse-temperature 0 --precision bf16

iqlft table runs-ablations --published none
iqlft plot runs-ablations --published none
