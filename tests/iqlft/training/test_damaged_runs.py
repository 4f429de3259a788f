"""A run folder that bad luck or a hand has changed: one sentence, or what would have come anyway.

Whatever happens to a file of a run, a command that reads it either refuses in one sentence or does
what it would have done with the undamaged run; a part of a report may be left out, with the reason.
"""

import contextlib
import dataclasses
import hashlib
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iqlft.cli import main as cli
from iqlft.config.settings import FinetuneConfig
from iqlft.report import run_data
from iqlft.runs import checkpoint
from iqlft.runs.checkpoint import CheckpointError
from iqlft.runs.folder import JOURNAL, Run, is_claimed
from iqlft.runs.policy import load_policy
from iqlft.runs.recorded import settle
from iqlft.training.finetune import finetune
from iqlft.training.interruption import Interrupted
from iqlft.training.resume import resume
from run_fixtures import stopped_at

OFFLINE = 300
Act = Callable[[Path], tuple[int, str, str, object]]
"""A command on a run: exit code, output, errors, and what it has come to."""
UNREAD = ("logs/", "plots/", "tensorboard/")
"""What no command reads."""


@pytest.fixture(scope="module")
def interrupted(
    corner_root: Path,
    pretrained: Path,
    lockstep: FinetuneConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A fine-tuning that was stopped by Ctrl-C, with two checkpoints of its own; to be read."""
    folder = tmp_path_factory.mktemp("interrupted") / "antmaze-corner" / "iql-s0"
    shutil.copytree(pretrained, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(corner_root))
        config = dataclasses.replace(lockstep, env_steps=60, eval_every=60, log_every=10)
        with stopped_at(OFFLINE + 25), pytest.raises(Interrupted):
            finetune(dataclasses.replace(config, run=(folder,)))
    return folder


@pytest.fixture
def stopped(corner: str, interrupted: Path, tmp_path: Path) -> Path:  # noqa: ARG001
    """The same, to do with as one likes."""
    return Path(shutil.copytree(interrupted, tmp_path / "runs" / "antmaze-corner" / "iql-s0"))


@pytest.fixture
def finished(corner: str, finetuned: Path, tmp_path: Path) -> Path:  # noqa: ARG001
    """A run that is finished, to do with as one likes."""
    return Path(shutil.copytree(finetuned, tmp_path / "runs" / "antmaze-corner" / "iql-s0"))


def said(*arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = cli.main([str(each) for each in arguments])
    return code, output.getvalue(), errors.getvalue()


def refused(*arguments: object) -> str:
    """The one sentence with which a command refuses a run."""
    code, _, errors = said(*arguments)
    assert code == 2, errors
    assert errors.count("\n") == 1, errors
    assert errors.startswith(f"iqlft {arguments[0]}: ")
    return errors


def outcome(run: Path) -> object:
    """What a fine-tuning has come to."""
    saved = checkpoint.load(run / "checkpoints")
    tensors = {key: each.numpy().tobytes() for key, each in saved.tensors.items()}
    rows = (run / "curves.csv").read_text().splitlines()
    scores = [re.sub(r"^((?:[^,]*,){3})[^,]*", r"\1", row) for row in rows]
    return tensors, saved.state["env_steps"], scores, (run / "episodes.csv").read_bytes()


def flipped(data: bytes, at: float) -> bytes:
    index = min(int(at * len(data)), len(data) - 1)
    return bytes([*data[:index], data[index] ^ 1, *data[index + 1 :]])


@pytest.mark.parametrize("phase", ["pretrained", "interrupted"])
def test_a_run_is_claimed_before_the_checkpoint_is_read_that_it_goes_on_from(
    phase: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "antmaze-corner" / "iql-s0"
    shutil.copytree(request.getfixturevalue(phase), folder)
    Run.open(folder).write_meta({"status": "interrupted"})

    def read(*_: object) -> None:
        raise CheckpointError("claimed" if is_claimed(folder) else "free to be trained by others")

    monkeypatch.setattr(checkpoint, "load", read)
    with pytest.raises(CheckpointError, match="claimed"):
        resume(folder)
    assert not is_claimed(folder)


# -- config.yaml --------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(
    ("damage", "difference"),
    [
        (lambda text: text[: text.index("finetune:")], "finetune is missing"),
        (lambda text: text.replace("  utd_ratio: 0.5\n", ""), "utd_ratio is missing, was 0.5"),
        (lambda text: text.replace("env_steps: 60", "env_steps: 68"), "env_steps is 68, was 60"),
        (lambda text: text.replace("expectile: 0.9", "expectile: 0.1"), "expectile is 0.1, was"),
    ],
)
def test_a_run_is_not_resumed_with_another_configuration_and_the_difference_is_shown(
    sealed: bool, damage: Callable[[str], str], difference: str, stopped: Path
) -> None:
    path = stopped / "config.yaml"
    text = path.read_text()
    path.write_text(damage(text if sealed else text.partition("\n")[2]))
    before = {each: each.read_bytes() for each in stopped.rglob("*") if each.is_file()}
    assert difference in refused("resume", stopped)
    assert {each: each.read_bytes() for each in stopped.rglob("*") if each.is_file()} == before


def test_a_lost_configuration_is_written_anew_from_the_checkpoint(
    stopped: Path, interrupted: Path
) -> None:
    (stopped / "config.yaml").unlink()
    code, output, _ = said("resume", stopped)
    assert code == 0
    assert "config.yaml was missing: it is written anew" in output
    assert (stopped / "config.yaml").read_bytes() == (interrupted / "config.yaml").read_bytes()


def test_a_finished_run_gets_its_configuration_back_too(finished: Path, finetuned: Path) -> None:
    (finished / "config.yaml").unlink()
    assert "there is no more to do" in refused("resume", finished)
    assert (finished / "config.yaml").read_bytes() == (finetuned / "config.yaml").read_bytes()


def test_a_change_that_is_meant_is_taken_and_said(stopped: Path) -> None:
    path = stopped / "config.yaml"
    path.write_text(path.read_text().replace("env_steps: 60", "env_steps: 54"))
    code, output, errors = said("resume", stopped, "--edited")
    assert (code, errors) == (0, "")
    assert "as it was edited: finetune.env_steps is 54, was 60" in " ".join(output.split())
    assert checkpoint.load(stopped / "checkpoints").state["env_steps"] == 54
    assert (Run.open(stopped).config("finetune") or {})["env_steps"] == 54


def test_a_run_is_not_fine_tuned_with_another_pretraining_than_its_own(
    fresh: Path, lockstep: FinetuneConfig
) -> None:
    run = Run.open(fresh)
    run.write_config("pretrain", {**(run.config("pretrain") or {}), "discount": 0.5})
    with pytest.raises(Exception, match=r"pretrain.discount is 0.5, was 0.99"):
        finetune(dataclasses.replace(lockstep, run=(fresh,)))


# -- checkpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"nothing", b"../../iql-s0", b"000000299"])
def test_without_a_last_one_the_whole_ones_are_named_and_the_newest_of_them_is_taken(
    content: bytes, stopped: Path
) -> None:
    folder = stopped / "checkpoints"
    (folder / "last").write_bytes(content)
    *_, before, newest = checkpoint.names(folder)
    with pytest.raises(checkpoint.CheckpointError, match=f"there are .*{newest}: write one of"):
        checkpoint.load(folder)
    damaged = folder / newest / checkpoint.TENSORS
    damaged.write_bytes(flipped(damaged.read_bytes(), 0.9))
    told: list[str] = []
    settle(Run.open(stopped), told.append)
    assert f"going on from {before}, the newest whole checkpoint" in told[0]
    assert checkpoint.last(folder) == before


def test_a_run_that_goes_on_from_an_older_checkpoint_comes_to_the_same_end(
    stopped: Path, interrupted: Path
) -> None:
    folder = stopped / "checkpoints"
    (folder / "last").unlink()
    shutil.rmtree(folder / checkpoint.names(folder)[-1])
    code, output, errors = said("resume", stopped)
    assert (code, errors) == (0, "")
    assert "is lost: going on from 000000320" in " ".join(output.split())
    whole = Path(shutil.copytree(interrupted, stopped.with_name("whole")))
    resume(whole)
    assert outcome(stopped) == outcome(whole)


# -- what other commands read ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["policy/actor.safetensors", "policy/policy.json"])
@pytest.mark.parametrize("command", ["evaluate", "export", "video"])
def test_a_flipped_weight_is_neither_evaluated_nor_filmed_nor_exported(
    command: str, name: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = finished / name
    path.write_bytes(flipped(path.read_bytes(), 0.8))
    assert f"The policy in {finished / 'policy'} is damaged" in refused(command, finished)


def test_a_flipped_weight_of_the_checkpoint_is_not_fine_tuned(finished: Path) -> None:
    (name, *_) = checkpoint.names_at(finished / "checkpoints", OFFLINE)[::-1]
    path = finished / "checkpoints" / name / checkpoint.TENSORS
    path.write_bytes(flipped(path.read_bytes(), 0.9))
    assert "is damaged" in refused("finetune", finished, "--into", "again", "--env-steps", "4")


@pytest.mark.parametrize(
    ("command", "name"),
    [("table", "curves.csv"), ("plot", "curves.csv"), ("report", "curves.csv")],
)
def test_a_changed_score_is_not_shown(command: str, name: str, finished: Path) -> None:
    path = finished / name
    # The episodes of the first row, which look as good as the others.
    path.write_text(path.read_text().replace(",2,100", ",3,100", 1))
    assert f"{name} does not hold what was written" in refused(command, finished)


@pytest.mark.parametrize("name", ["curves.csv", "episodes.csv", "evaluations.csv", "metrics.jsonl"])
def test_a_run_is_not_resumed_after_a_row_was_changed(name: str, stopped: Path) -> None:
    path = stopped / name
    path.write_bytes(flipped(path.read_bytes(), 0.5))
    before = path.read_bytes()
    assert f"{name} does not hold what the checkpoint says" in refused("resume", stopped)
    assert path.read_bytes() == before


def test_a_run_without_the_dataset_that_it_learned_from_is_not_resumed(stopped: Path) -> None:
    (stopped / "meta.json").write_text("{}\n")
    assert "meta.json has no dataset.hash; restore it from a copy" in refused("resume", stopped)


# -- any damage to any file or folder -------------------------------------------------------------


def other_kind(path: Path) -> None:
    """A folder in the place of a file, a file in that of a folder."""
    if path.is_dir():
        shutil.rmtree(path)
        path.touch()
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints/last", "endpoint", "logs", "logs/learner.log", "logs/worker-0.log", "policy",
        "policy/policy.json", "replay", "replay/journal", ".claim",
    ],
)  # fmt: skip
def test_what_lies_in_the_place_of_what_a_command_writes_is_named(name: str, stopped: Path) -> None:
    other_kind(stopped / name)
    sentence = refused("resume", stopped)
    assert f"{stopped / name}" in sentence
    assert "move away the file or folder that lies in its place" in sentence


def test_a_run_goes_on_without_what_was_moved_away(stopped: Path, interrupted: Path) -> None:
    other_kind(stopped / "logs")
    refused("resume", stopped)
    (stopped / "logs").unlink()
    assert said("resume", stopped)[0] == 0
    whole = Path(shutil.copytree(interrupted, stopped.with_name("whole")))
    resume(whole)
    assert outcome(stopped) == outcome(whole)


MUTATIONS: dict[str, Callable[[Path], object]] = {
    "delete": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "null": lambda path: path.write_text("null\n"),
    "list": lambda path: path.write_text("[1, 2]\n"),
    "object": lambda path: path.write_text("{}\n"),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00\x9c" * 40),
    "other kind": other_kind,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one more": lambda path: path.write_bytes(path.read_bytes() + b"7"),
    **{
        f"flip at {at}": lambda path, at=at: path.write_bytes(flipped(path.read_bytes(), at))  # type: ignore[misc]
        for at in (0.0, 0.03, 0.3, 0.6, 0.9, 1.0)
    },
}
"""What happens to a file."""
FOLDER_MUTATIONS: dict[str, Callable[[Path], object]] = {
    "delete": shutil.rmtree,
    "other kind": other_kind,
}
"""What happens to a folder."""


def names(run: Path) -> list[str]:
    """All files and folders of a run."""
    return sorted(str(path.relative_to(run)) for path in run.rglob("*"))


def mutations(path: Path, name: str) -> dict[str, Callable[[Path], object]]:
    """What may happen to a file or a folder; of what is not read, only the kind matters."""
    if path.is_dir():
        return FOLDER_MUTATIONS
    wanted = set(MUTATIONS)
    if not path.stat().st_size:
        wanted = {"delete", "other kind", "one more"}
    if name.startswith(UNREAD):
        wanted = {"other kind"}
    return {each: mutate for each, mutate in MUTATIONS.items() if each in wanted}


def damaged(run: Path, place: Path, chosen: list[str]) -> Iterator[tuple[str, Path]]:
    """Copies of a run, each with one damage to one file or folder."""
    for name in chosen:
        for mutation, mutate in mutations(run / name, name).items():
            copy = place / "antmaze-corner" / "iql-s0"
            shutil.copytree(run, copy)
            mutate(copy / name)
            yield f"{mutation}: {name}", copy
            shutil.rmtree(place)


def digests(folder: Path) -> dict[str, str]:
    """What lies in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def faults(run: Path, place: Path, chosen: list[str], act: Act) -> list[str]:
    """Damages upon which a command is silently wrong, or says anything but one sentence."""
    clean = shutil.copytree(run, place / "antmaze-corner" / "iql-s0")
    code, _, errors, expected = act(clean)
    assert code == 0, errors
    shutil.rmtree(place)
    found = []
    for damage, copy in damaged(run, place, chosen):
        try:
            code, output, errors, result = act(copy)
        except Exception as error:  # noqa: BLE001 -- what a user would see as a traceback
            found.append(f"{damage}: {error!r}")
            continue
        if code == 2 and errors.count("\n") == 1 and errors.startswith("iqlft "):
            continue
        if code != 0 or errors:
            found.append(f"{damage}: exit code {code}, {errors}")
        elif result != expected and "eft out" not in output:
            found.append(f"{damage}: silently another result, {output}")
    return found


def reading(*arguments: str) -> Act:
    """A command that reads a run: its output, and what it writes into `out`."""

    def act(run: Path) -> tuple[int, str, str, object]:
        out = run.parents[1] / "out"
        words = [{"RUN": str(run), "OUT": str(out)}.get(each, each) for each in arguments]
        code, output, errors = said(*words)
        page = out / "report.html"
        shown = output + (page.read_text() if page.is_file() else "")
        pure = re.sub(r"\d\d:\d\d:\d\d", "", output)
        return code, shown, errors, (pure, digests(out) if out.exists() else None)

    return act


def training(*arguments: str) -> Act:
    """A command that trains."""

    def act(run: Path) -> tuple[int, str, str, object]:
        words = [str(run) if each == "RUN" else each for each in arguments]
        code, output, errors = said(*words)
        return code, output, errors, outcome(run) if not code else None

    return act


def cleaning(run: Path) -> tuple[int, str, str, object]:
    """Cleans a run: what is left of what it writes anew."""
    code, _, errors = said("clean", run)
    if code:
        return code, "", errors, None
    networks = checkpoint.algorithm_tensors(checkpoint.load(run / "checkpoints").tensors)
    tensors = {key: each.numpy().tobytes() for key, each in networks.items()}
    survey = run / "replay" / "survey.safetensors"
    return 0, "", errors, (tensors, survey.read_bytes(), load_policy(run)(np.ones(29)).tobytes())


LAST = r"checkpoints/(last|000000470-001/)"
COMMANDS: dict[str, tuple[str, str, Act]] = {
    "table": ("finetuned", "", reading("table", "RUN", "--style", "csv")),
    "export": ("finetuned", "", reading("export", "RUN", "--out", "OUT")),
    "plot": ("finetuned", "csv|meta", reading("plot", "RUN", "--out", "OUT")),
    "report": (
        "finetuned",
        f"^[^/]*$|{LAST}|policy|replay",
        reading("report", "RUN", "--out", "OUT"),
    ),
    "evaluate": (
        "finetuned",
        "policy|meta",
        reading("evaluate", "RUN", "--episodes", "1", "--workers", "1"),
    ),
    "clean": ("finetuned", "^(?!checkpoints$|replay$)", cleaning),  # Runs without them are whole.
    "resume": ("interrupted", "", training("resume", "RUN")),
    "finetune": (
        "pretrained",
        "",
        training("finetune", "RUN", "--env-steps", "4", "--workers", "1", "--lockstep",
                 "--eval-every", "4"),
    ),
}  # fmt: skip
"""What is done with which run, the files that it may read (any where it is empty), and how."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("corner")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_damage_to_any_file_or_folder_ends_in_a_traceback_or_is_silently_wrong(
    command: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_data, "EPISODES", 1)  # Of hundreds of reports.
    kind, read, act = COMMANDS[command]
    run: Any = request.getfixturevalue(kind)
    chosen = [name for name in names(run) if name != JOURNAL and re.search(read, name)]
    found = faults(run, tmp_path / "runs", chosen, act)
    assert not found, "\n".join(found)
