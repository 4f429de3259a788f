"""The quick start: offline IQL on a Minari dataset, then the policy in its environment.

    iqlft data make antmaze-umaze
    python docs/quickstart.py --num-updates 100_000

Nothing here is hidden: `iqlft pretrain` is built from the same pieces, and adds evaluation in
worker processes, checkpoints and a run folder.
"""

import argparse
from pathlib import Path

import iqlft
from iqlft_workers.environment import make


def main() -> None:
    parser = argparse.ArgumentParser(description="Train IQL, act once through the maze, save.")
    parser.add_argument("--dataset", default="iqlft/antmaze/umaze-v1", help="Minari id")
    parser.add_argument("--num-updates", type=int, default=100_000)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("my-policy"), help="folder to save to")
    arguments = parser.parse_args()

    # 1. A dataset, with the rewards, the goal and the environment that its task names.
    dataset = iqlft.load_dataset(arguments.dataset)
    print(f"{dataset.id}: {dataset.num_transitions:,} transitions")

    # 2. The algorithm; these are its defaults, those of AntMaze.
    iql = iqlft.IQL(
        dataset,
        expectile=0.9,
        inverse_temperature=10.0,
        discount=0.99,
        target_update_rate=0.005,
        learning_rate=3e-4,
        hidden_size=arguments.hidden_size,
        batch_size=arguments.batch_size,
    )

    # 3. Training; docs/metrics.md explains the figures.
    metrics = iql.train(num_updates=arguments.num_updates)
    print(f"after {iql.updates:,} updates: value loss {metrics['value/loss']:.4f}")

    # 4. Acting: the policy takes observations as the environment gives them.
    environment = make(dataset.environment)
    observation, _ = environment.reset(seed=0)
    terminated = truncated = False
    episode_return, steps = 0.0, 0
    while not (terminated or truncated):
        action = iql.act(observation)
        observation, reward, terminated, truncated, _ = environment.step(action)
        episode_return, steps = episode_return + float(reward), steps + 1
    environment.close()
    print(f"an episode of {steps} steps, return {episode_return:.1f}")

    # 5. Saving; `iqlft.load_policy` reads it back wherever NumPy runs, without torch.
    iql.save(arguments.out)
    print(f"saved to {arguments.out}: use it with iqlft.load_policy({str(arguments.out)!r})")


if __name__ == "__main__":
    main()
