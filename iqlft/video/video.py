"""`iqlft video`: the best, the median and the worst evaluation episode, before and after."""

from __future__ import annotations

import itertools
import math
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from iqlft.analysis.restored import pretrained_policy
from iqlft.analysis.summary import series_of
from iqlft.config.settings import ConfigError
from iqlft.datasets.goal_maze import distance_to_goal
from iqlft.gateway.watchdog import PATIENCE_SECONDS
from iqlft.runs.curves import read_run
from iqlft.runs.folder import Run, finetune_config, pretrain_config
from iqlft.runs.policy import Policy, load_policy, save_policy
from iqlft.training.evaluate import run_episodes
from iqlft.training.evaluation import success_share
from iqlft.training.pacing import env_steps_for
from iqlft.video.camera import picture_size
from iqlft.video.captions import number
from iqlft.video.encode import find_ffmpeg, write_mp4
from iqlft.video.filming import Scene, filming
from iqlft.video.montage import LOOKS, Montage
from iqlft.video.opengl import find_backend
from iqlft_workers.environment import Environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from iqlft.config.settings import Judge
    from iqlft_workers.episode import EpisodeResult

RANKS = ("best", "median", "worst")
"""Which episodes of a policy are shown."""
NAME = "video.mp4"
"""Default name of the video's file."""
PER_SECOND, MOST_PICTURES, LAST_PICTURES = 30, 400, 60
"""Pictures per second, about the most of the longest episode, and those of the still end."""


class Phase(NamedTuple):
    """A row of the video.

    Attributes:
        name: such as `before fine-tuning`.
        policy: the policy that acts.
    """

    name: str
    policy: Policy


def film_run(
    folder: Path,
    out_folder: Path,
    episodes: int,
    num_workers: int,
    say: Callable[[str], None] = lambda _: None,
    *,
    trust: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
    name: str = NAME,
) -> list[Path]:
    """Runs the evaluation episodes of a run's policies again, and films three of each.

    Args:
        folder: the run folder.
        out_folder: where the files go; made if missing.
        episodes: number of episodes, with the seeds of the evaluations in training.
        num_workers: local worker processes that run them.
        say: called with sentences of progress.
        trust: whether the policy's environment may be made though no installed package registers
            it.
        patience_seconds: longest time that its environment may take to be built, reset or stepped.
        name: of the video's file.

    Returns:
        The video, and its last picture beside it as PNG.

    Raises:
        UserError: there is no run or policy, nothing can be drawn or written here, or a number
            makes no sense.
    """
    if episodes < len(RANKS):
        raise ConfigError(f"--episodes must be at least {len(RANKS)}: {', '.join(RANKS)}.")
    run, shown = Run.open(folder), read_run(folder)
    phases, judged_by = phases_of(run, trust=trust), pretrain_config(run).score
    # Fail for lack of ffmpeg or OpenGL before running the episodes, which takes long.
    find_ffmpeg()
    backend = find_backend()
    out_folder.mkdir(parents=True, exist_ok=True)
    rows = []
    with closing(Environment(phases[0].policy.environment)) as environment:
        size = picture_size(environment)
        for phase in phases:
            say(f"Running {episodes} episodes {phase.name}.")
            rows.append(
                run_episodes(phase.policy, folder.name, episodes, num_workers, patience_seconds)
            )
        if any(success_share(each) is None for each in rows):
            judged_by = "return"
        rows = [ranked(each, judged_by, environment) for each in rows]
    montage = Montage(
        f"{shown.task}, {series_of(shown).name}, seed {shown.seed}",
        f"data: {shown.label}",
        [(phase.name, summary(row, judged_by)) for phase, row in zip(phases, rows, strict=True)],
        columns=len(RANKS),
        size=size,
    )
    video = out_folder / name
    poster = video.with_suffix(".png")
    say("Filming the best, the median and the worst.")
    with tempfile.TemporaryDirectory() as place, ExitStack() as films:
        pictures = [
            films.enter_context(filming(scene, size, backend, Path(place) / f"{index}.log"))
            for index, scene in enumerate(_scenes(phases, rows, judged_by, Path(place)))
        ]
        write_mp4(video, _pages(montage, pictures, poster), PER_SECOND)
    return [video, poster]


def phases_of(run: Run, *, trust: bool = False) -> list[Phase]:
    """The policies to compare: before and after if the run has been fine-tuned, else its newest.

    Raises:
        UserError: a policy is missing or damaged.
    """
    newest = load_policy(run.folder, trust=trust)
    if not run.fine_tuned:
        return [Phase(f"after {newest.weights.version:,} offline updates", newest)]
    first = Phase("before fine-tuning", pretrained_policy(run, newest))
    updates = newest.weights.version - first.policy.weights.version
    config = finetune_config(run)
    steps = env_steps_for(updates, config.utd_ratio, config.warmup_steps)
    after = Phase(f"after {steps:,} environment steps", newest)
    return [first, after] if updates else [first]


def ranked(
    results: Sequence[EpisodeResult],
    judged_by: Judge,
    environment: Environment,
) -> list[EpisodeResult]:
    """Episodes from the best to the worst.

    Successes rank by how soon they come; failures by return, then by distance to the goal at the
    end. Where returns count, these alone decide.

    Args:
        results: of one policy.
        judged_by: what the task is scored by.
        environment: the one that they ran in; it is reset.
    """

    def merit(result: EpisodeResult) -> tuple[float, ...]:
        known = not math.isnan(result.episode_return)  # A discarded episode has no return.
        outcome = result.episode_return if known else -math.inf
        if judged_by == "return":
            return (outcome,)
        if result.success:
            return (1, -result.first_hit)
        environment.reset(result.seed)
        distance = distance_to_goal(environment, result.end)
        return (0, outcome, -(distance or 0))

    return sorted(results, key=merit, reverse=True)


def summary(results: Sequence[EpisodeResult], judged_by: Judge) -> str:
    """The result of all episodes together, in words."""
    if judged_by == "return":
        # An episode that ended at a value that is not finite has no return.
        known = [each.episode_return for each in results if math.isfinite(each.episode_return)]
        lost = f", {len(results) - len(known)} not finite" * (len(known) < len(results))
        mean = f"mean return {number(float(np.mean(known)))} of " if known else ""
        return f"{mean}{len(known)} episode{'s' * (len(known) != 1)}{lost}"
    return f"{sum(bool(each.success) for each in results)} of {len(results)} episodes succeed"


def _scenes(
    phases: Sequence[Phase],
    rows: Sequence[Sequence[EpisodeResult]],
    judged_by: Judge,
    place: Path,
) -> list[Scene]:
    """Three scenes of each phase, with a stride that no episode has too many pictures for."""
    chosen = [(row[0], row[len(row) // 2], row[-1]) for row in rows]
    longest = max(result.length for row in chosen for result in row)
    stride = max(1, math.ceil(longest / MOST_PICTURES))
    scenes = []
    for index, (phase, row) in enumerate(zip(phases, chosen, strict=True)):
        policy, (_, colour) = place / str(index), LOOKS[index]
        save_policy(policy, phase.policy.weights, phase.policy.environment, {})
        for title, result in zip(RANKS, row, strict=True):
            trust = phase.policy.environment.trust
            scene = Scene(str(policy), result.seed, stride, title, colour, judged_by, trust)
            scenes.append(scene)
    return scenes


def _pages(
    montage: Montage, films: Sequence[Iterator[NDArray[np.uint8]]], poster: Path
) -> Iterator[NDArray[np.uint8]]:
    """Pages until every film has ended, each frozen at its end; saves the last page."""
    pictures = [next(film) for film in films]
    moving = True
    while moving:
        yield montage.page(pictures)
        following = [next(film, None) for film in films]
        moving = any(each is not None for each in following)
        pictures = [
            old if new is None else new for old, new in zip(pictures, following, strict=True)
        ]
    last = montage.page(pictures)
    Image.fromarray(last).save(poster, optimize=True)
    yield from itertools.repeat(last, LAST_PICTURES)
