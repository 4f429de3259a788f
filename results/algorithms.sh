#!/usr/bin/env bash
# Fine-tuning by several algorithms and switches (v1 data), at lengths that two cores allow: 60 evaluation episodes, and
# one update each environment step. `results/keep.py` keeps the small files; `python results/switch.py results/algorithms`
# makes the table of them.
#
#     for task in umaze medium-play; do iqlft data make antmaze-$task; done
#     for seed in 0 1; do bash results/algorithms.sh $seed; done
seed=${1:-0}
common="--precision bf16 --eval-episodes 60 --no-tensorboard --runs runs/algorithms"
# The RLPD of the FQL paper, with networks of the size of IQL's: 512 x 4 would take ten times as long.
rlpd="--algorithm rlpd --critic-updates 1 --num-critics 2 --num-target-critics 0 --target-reduction mean --hidden-size 256 \
  --hidden-layers 2 --offline-ratio 0.5"
alone="--num-updates 0 --random-steps 5000 --warmup-steps 5000 --name rlpd-online-s$seed"

# umaze: 100k updates on the data, then 25k environment steps.
run=runs/algorithms/antmaze-umaze
offline="--task antmaze-umaze --seed $seed --num-updates 100000 --eval-every 25000 --checkpoint-every 25000 $common"
online="--workers 2 --env-steps 25000 --eval-every 5000 --checkpoint-every 25000 $common"
guide="--guide-steps 200 --guide-until 20000"
iqlft pretrain --algorithm iql $offline
iqlft finetune $run/iql-s$seed --into iql-online-s$seed $online
iqlft finetune $run/iql-s$seed --into iql-half-s$seed --offline-ratio 0.5 $online
iqlft finetune $run/iql-s$seed --into iql-guide-s$seed $guide $online
iqlft finetune $run/iql-s$seed --into iql-rlpd-s$seed $rlpd $online
iqlft pretrain --algorithm awac $offline
iqlft finetune $run/awac-s$seed --into awac-online-s$seed $online
iqlft run --task antmaze-umaze --seed $seed $rlpd $alone $online
if [ "$seed" = 0 ]; then
  # Critics with LayerNorm, as RLPD has: then it takes over IQL's, beside the actor's mean.
  iqlft pretrain --critic-layer-norm --name iql-norm-s0 $offline
  iqlft finetune $run/iql-norm-s0 --into iql-norm-rlpd-s0 $rlpd $online
  # Stopped after 15,000 steps.
  iqlft finetune $run/iql-norm-s0 --into iql-norm-rlpd-cool-s0 $rlpd --entropy-temperature 0.01 $online
else
  # Run when a switch did not take over an actor's mean yet, so that RLPD began untrained.
  iqlft finetune $run/iql-s$seed --into iql-rlpd-guide-s$seed $rlpd $guide $online
fi
[ "$seed" = 0 ] || exit 0

# medium-play: 200k updates, then 50k steps.
run=runs/algorithms/antmaze-medium-play
offline="--task antmaze-medium-play --num-updates 200000 --eval-every 50000 --checkpoint-every 25000"
online="--workers 2 --env-steps 50000 --eval-every 10000 --checkpoint-every 25000 $common"
iqlft pretrain $offline --precision bf16 --runs runs/algorithms
iqlft finetune $run/iql-s0 --into iql-online-s0 $online
iqlft finetune $run/iql-s0 --into iql-guide-s0 --guide-steps 400 --guide-until 40000 $online
iqlft run --task antmaze-medium-play $rlpd $alone $online
iqlft pretrain --algorithm awac $offline $common
iqlft finetune $run/awac-s0 --into awac-online-s0 $online

# CQL and Cal-QL with networks of IQL's size and 4 proposed actions of each kind instead of 10: 20k updates, then 5k steps.
run=runs/algorithms/antmaze-umaze
small="--sampled-actions 4 --target-actions 4 --critic-hidden-layers 2 --hidden-layers 2"
offline="--task antmaze-umaze --num-updates 20000 --eval-every 5000 --checkpoint-every 10000 $common"
online="--workers 2 --env-steps 5000 --eval-every 1000 --checkpoint-every 10000 $common"
for algorithm in cql calql; do
  iqlft pretrain --algorithm $algorithm $small --reward-scale 10 --reward-shift -5 $offline
  iqlft finetune $run/$algorithm-s0 --into $algorithm-online-s0 --offline-ratio 0.5 $online
done
iqlft finetune $run/calql-s0 --into calql-wsrl-s0 --algorithm wsrl --offline-ratio 0 --warmup-steps 2500 \
  --critic-updates 1 --num-critics 2 --num-target-critics 2 --no-critic-layer-norm --no-actor-layer-norm \
  --critic-hidden-layers 2 --target-actions 4 $online
