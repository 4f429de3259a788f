"""The command line: one clear sentence and exit code 2 for what a user can mend, nothing lost."""

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import h5py
import pytest
import yaml

import iqlft
from iqlft.cli import main as cli
from iqlft.cli.arguments import ResumeRun
from iqlft.cli.doctor import examine
from iqlft.cli.parsing import parse
from iqlft.cli.sources import settings
from iqlft.config.errors import ConfigError
from iqlft.config.layers import to_dict, to_yaml
from iqlft.config.settings import FinetuneConfig, PretrainConfig
from iqlft.gateway.sockets import PortInUseError
from iqlft.runs.folder import Run
from iqlft.runs.policy import save_policy
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec
from run_fixtures import curves, stopped_at

ROOT = Path(__file__).parents[3]
Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def main(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Main:
    """Runs a command in an empty folder; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = cli.main([str(each) for each in arguments])
        except SystemExit as error:
            code = int(error.code or 0)
        output, errors = capsys.readouterr()
        return code, output, errors

    return run


@pytest.fixture
def small(tmp_path: Path, pretraining: PretrainConfig) -> Path:
    """A config file of a small pretraining, and of fine-tuning too."""
    path = tmp_path / "small.yaml"
    path.write_text(to_yaml(pretraining))
    return path


def everything(folder: Path) -> dict[Path, int]:
    """When each file was written last."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def refused(main: Main, *arguments: str | Path) -> str:
    """The one sentence with which a command refuses its arguments."""
    code, output, errors = main(*arguments)
    assert code == 2
    assert not output or (output.count("\n") == 1 and " Reading " in output)
    assert "Traceback" not in errors
    assert errors.count("\n") == 1
    assert errors.startswith(f"iqlft {arguments[0]}: ")
    return errors


# -- bad input ----------------------------------------------------------------------------------


def test_a_misspelt_flag_is_named_though_there_is_no_run(main: Main) -> None:
    said = refused(main, "finetune", "--worker", "8", "--expectile", "0.7", "--no-lockstep")
    assert "There is no run under runs/ that is pretrained" in said
    assert said.rstrip().endswith("there is no flag --worker. Did you mean '--workers'?")
    assert "no flag" not in refused(main, "finetune", "--expectile", "0.7")


def test_an_unknown_command_is_answered_with_the_nearest_one(main: Main) -> None:
    assert "no command 'pretrian'. Did you mean 'pretrain'?" in refused(main, "pretrian")
    assert "no action 'maek'. Did you mean 'make'?" in refused(main, "data", "maek")


def test_an_unknown_task_is_answered_with_the_nearest_one(main: Main) -> None:
    for command in ("pretrain", "finetune", "run"):
        sentence = refused(main, command, "--task", "antmaze-umase")
        assert "no task 'antmaze-umase'. Did you mean 'antmaze-umaze'?" in sentence


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workers", "0"], "--workers is 0, but must be at least 1"),
        (["--num-updates", "-5"], "--num-updates is -5, but must be at least 0"),
        (["--seed", "-1"], "--seed is -1, but must be at least 0"),
        (["--expectile", "1.5"], "--expectile is 1.5, but must lie in (0, 1]"),
        (["--device", "gpu"], "The device 'gpu' cannot be used here"),
        (["--dropout", "0.1", "--cuda-graph"], "--cuda-graph repeats one recorded update"),
        (["--config", "absent.yaml"], "no configuration file absent.yaml"),
        (["--config"], "--config needs a value"),
        (["--name", "a/b"], "--name is 'a/b'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_made(
    flags: list[str], message: str, main: Main, corner: str, tmp_path: Path
) -> None:
    assert corner
    assert message in refused(main, "pretrain", "--task", "antmaze-corner", *flags)
    assert everything(tmp_path) == {}


@pytest.mark.parametrize(("flag", "least"), [("--env-steps", 1), ("--workers", 0)])
def test_negative_steps_and_no_workers_are_refused_for_fine_tuning(
    flag: str, least: int, main: Main, fresh: Path
) -> None:
    before = everything(fresh)
    sentence = refused(main, "finetune", fresh, flag, "-3")
    assert f"{flag} is -3, but must be at least {least}" in sentence
    assert everything(fresh) == before


@pytest.mark.parametrize("flags", [["--num-updates", "many"], ["--wrokers", "2"], ["surplus"]])
def test_arguments_that_cannot_be_read_exit_with_2(flags: list[str], main: Main) -> None:
    code, _, errors = main("pretrain", *flags)
    assert code == 2
    assert flags[-1] in errors or flags[0] in errors
    assert "Traceback" not in errors


def test_a_missing_dataset_names_the_command_that_makes_it(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    assert "`iqlft data make antmaze-umaze`" in refused(main, "pretrain")
    sentence = refused(main, "pretrain", "--dataset", "D4RL/antmaze/umaze-v1")
    assert "`iqlft data download D4RL/antmaze/umaze-v1`" in sentence
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("environment", "goal", "message"),
    [
        (
            "PointMaze_UMaze-v3",
            "observed",
            "observation [4], desired_goal [2], but the data hold achieved_goal [2], obs",
        ),
        ("PointMaze_UMaze-v3", "evaluation", "no single evaluation goal"),
        ("Pendulum-v1", "evaluation", "Pendulum-v1"),
        ("iqlft/AntMaze-Corner-v1", "evaluation", "Did you mean 'iqlft/AntMaze-Corner-v0'"),
    ],
)
def test_an_environment_of_other_dimensions_is_refused_before_training(
    environment: str,
    goal: str,
    message: str,
    main: Main,
    small: Path,
    corner: str,
    tmp_path: Path,
) -> None:
    assert corner
    flags = ["--environment", environment, "--goal", goal]
    sentence = refused(main, "pretrain", "--config", small, *flags)
    assert message in sentence
    assert not (tmp_path / "runs").exists()


def test_an_existing_run_is_refused_untouched(main: Main, small: Path, fresh: Path) -> None:
    before = everything(fresh)
    sentence = refused(main, "pretrain", "--config", small)
    assert f"exists already; continue it with `iqlft resume {Path('runs')}" in sentence
    assert everything(fresh) == before


def test_a_corrupt_checkpoint_is_refused_and_nothing_is_cut(main: Main, fresh: Path) -> None:
    run = Run.open(fresh)
    run.write_meta({"status": "interrupted"})
    tensors = fresh / "checkpoints" / "000000300-001" / "tensors.safetensors"
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)
    run.files.append_metrics({"after": "the checkpoint"})
    run.close()
    before = everything(fresh)
    sentence = refused(main, "resume", fresh)
    assert f"{tensors} is damaged; to continue from the one before, write 000000300 " in sentence
    assert everything(fresh) == before


def test_a_port_in_use_is_refused_and_nothing_is_made(
    main: Main, small: Path, corner: str, tmp_path: Path
) -> None:
    assert corner
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sentence = refused(main, "pretrain", "--config", small, "--port", str(port))
    assert f"Port {port} of 127.0.0.1 is in use" in sentence
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_is_refused(
    main: Main, small: Path, fresh: Path, finetuned: Path
) -> None:
    Path("file").touch()
    assert "--runs" in refused(main, "pretrain", "--config", small, "--runs", "file/runs")
    assert "cannot be written" in refused(main, "export", fresh, "--out", "file/policy")
    assert "cannot be written" in refused(main, "table", finetuned, "--out", "file/table")
    assert "cannot be written" in refused(main, "plot", finetuned, "--out", "file/plots")


def test_a_figure_that_needs_what_is_not_here_is_refused(
    main: Main, finetuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    said = refused(main, "plot", finetuned, "--out", "fig.pgf")
    assert "fig.pgf cannot be drawn" in said
    assert "choose another ending" in said


@pytest.mark.parametrize(
    "command", ["resume", "finetune", "evaluate", "video", "export", "plot", "table"]
)
def test_a_folder_without_a_run_is_refused(command: str, main: Main) -> None:
    assert "There is no " in refused(main, command, "nowhere")


def test_an_empty_folder_of_runs_is_called_by_its_name(main: Main, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert main("list", "empty")[1].startswith("No runs under empty/ yet")


def test_a_run_behind_the_batches_to_be_dropped_is_asked_for_before_them(
    main: Main, fresh: Path
) -> None:
    asked = ("clean", "--drop-batches", "0:0:0", fresh)
    assert "`iqlft clean RUN --drop-batches " in refused(main, *asked)


@pytest.mark.parametrize("flag", ["--task=antmaze-umaze", "--dataset=mine/robot-v0"])
def test_the_demonstration_is_of_one_task(flag: str, main: Main, tmp_path: Path) -> None:
    assert "The demonstration is antmaze-corner-diverse" in refused(main, "demo", flag)
    assert everything(tmp_path) == {}


def test_a_finished_run_is_not_resumed(main: Main, fresh: Path) -> None:
    assert f"is finished; fine-tune it with `iqlft finetune {fresh}`" in refused(
        main, "resume", fresh
    )


@pytest.mark.parametrize("flag", ["--episodes", "--workers"])
def test_an_evaluation_needs_episodes_and_workers(flag: str, main: Main, fresh: Path) -> None:
    assert "must be at least 1" in refused(main, "evaluate", fresh, flag, "0")


def test_a_fault_of_the_program_keeps_its_traceback(
    main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: list[str]) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(cli.COMMANDS, "doctor", cli.Command(broken, None))
    with pytest.raises(ZeroDivisionError):
        main("doctor")


def test_a_failed_audit_prints_its_table_and_exits_with_1(
    main: Main, corner_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(corner_root, tmp_path / "minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    path = tmp_path / "minari/iqlft/antmaze/corner-v1/data/main_data.hdf5"
    with h5py.File(path, "a") as file:
        file["episode_0/truncations"][100] = True
    code, output, errors = main("data", "check", "iqlft/antmaze/corner-v1")
    assert code == 1
    assert output.startswith("check ")
    assert "is not as it should be: episodes that end before their last step." in errors


# -- looking without touching -------------------------------------------------------------------


def test_help_is_there_for_every_command(main: Main) -> None:
    code, output, _ = main("--help")
    assert code == 0
    for command in cli.COMMANDS:
        assert f"\n  {command}" in output
        code, text, errors = main(command, "--help")
        assert (code, errors) == (0, "")
        assert "usage" in text
    for action in ("list", "make", "download", "import", "check", "plot"):
        code, text, errors = main("data", action, "--help")
        assert (code, errors) == (0, "")
        assert "usage" in text


def test_no_command_shows_the_overview_and_fails(main: Main) -> None:
    code, output, _ = main()
    assert code == 2
    assert "usage: iqlft COMMAND" in output


def test_a_dry_run_says_what_would_be_and_leaves_nothing(
    main: Main, small: Path, fresh: Path, tmp_path: Path
) -> None:
    before = everything(tmp_path)
    code, output, errors = main("pretrain", "--config", small, "--seed", "9", "--dry-run")
    assert (code, errors) == (0, "")
    for part in ("903 transitions", "29 observation, 8 action", "300, about", "predicted time"):
        assert part in output
    code, output, errors = main("finetune", fresh, "--env-steps", "1000", "--dry-run")
    assert (code, errors) == (0, "")
    for part in (
        "1,000 by 2 workers",
        "1,000, about",
        "replay",
        "predicted time",
        "in the journal",
    ):
        assert part in output
    assert everything(tmp_path) == before


def test_a_printed_config_repeats_the_run(
    main: Main, pretraining: PretrainConfig, small: Path
) -> None:
    code, output, _ = main("pretrain", "--config", small, "--print-config")
    assert code == 0
    assert yaml.safe_load(output)["hidden_size"] == to_dict(pretraining)["hidden_size"]
    Path("again.yaml").write_text(output)
    assert main("pretrain", "--config", "again.yaml", "--print-config")[1] == output


def test_the_config_of_a_run_folder_repeats_it(main: Main, finetuned: Path) -> None:
    config = finetuned / "config.yaml"
    printed = yaml.safe_load(main("pretrain", "--config", config, "--print-config")[1])
    assert printed == Run.open(finetuned).config("pretrain")
    printed = yaml.safe_load(main("finetune", "--config", config, "--print-config")[1])
    assert printed == Run.open(finetuned).config("finetune")


# -- the commands on a small run ----------------------------------------------------------------


def test_one_command_pretrains_fine_tunes_and_draws(
    main: Main, corner: str, pretraining: PretrainConfig
) -> None:
    assert corner
    settings = to_dict(pretraining) | {
        "runs": "runs", "num_updates": 20, "eval_every": 20, "tensorboard": True
    }  # fmt: skip
    settings |= {"env_steps": 20, "lockstep": True}
    Path("run.yaml").write_text(yaml.safe_dump(settings))
    code, output, errors = main("run", "--config", "run.yaml")
    assert (code, errors) == (0, "")
    folder = Path("runs/antmaze-corner/iql-s0")
    assert Run.open(folder).meta["status"] == "finished"
    assert list((folder / "plots").glob("*.png"))
    assert list((folder / "tensorboard").glob("events*"))
    assert "Drew " in output
    assert "Evaluated after 20 updates: success" in output
    last = output.splitlines()[-1]
    assert last.startswith("antmaze-corner, iqlft IQL, 1 seed, success rate (%): before ")
    assert ", change " in last


def test_what_is_resumed_ends_as_what_was_begun(
    main: Main, corner: str, fresh: Path, finetuned: Path, tmp_path: Path
) -> None:
    assert corner
    tuned = Path(shutil.copytree(finetuned, tmp_path / "runs" / "antmaze-corner" / "tuned-s0"))
    for folder in (fresh, tuned):
        Run.open(folder).write_meta({"status": "interrupted"})
    code, output, errors = main("resume", fresh)
    assert (code, errors) == (0, "")
    assert output.endswith(f"Next: iqlft finetune {fresh}\n")
    assert not list((fresh / "plots").iterdir())
    code, output, errors = main("resume", tuned)
    assert (code, errors) == (0, "")
    assert (tuned / "plots" / "before_after.png").is_file()
    assert "before " in output.splitlines()[-1]


def test_a_run_that_is_stopped_in_pretraining_keeps_what_it_was_to_do_online(
    main: Main, corner: str, pretraining: PretrainConfig
) -> None:
    assert corner
    settings = to_dict(pretraining) | {"runs": "runs", "num_updates": 40, "env_steps": 77}
    Path("both.yaml").write_text(yaml.safe_dump(settings))
    with stopped_at(21):
        code, _, errors = main("run", "--config", "both.yaml", "--quiet")
    assert (code, "continue with `iqlft resume" in errors) == (130, True)
    folder = Path("runs/antmaze-corner/iql-s0")
    code, output, _ = main("resume", folder, "--quiet")
    assert code == 0
    (command,) = re.findall(r"Next: iqlft (finetune .*)", output)
    code, output, _ = main(*command.split(), "--print-config")
    assert yaml.safe_load(output)["env_steps"] == 77


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (PortInUseError("The port is taken."), 2)]
)
def test_a_run_that_ends_between_its_phases_keeps_what_it_was_to_do_online(
    error: BaseException,
    code: int,
    main: Main,
    corner: str,
    pretraining: PretrainConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert corner
    settings = to_dict(pretraining) | {"runs": "runs", "num_updates": 5, "env_steps": 77}
    Path("both.yaml").write_text(yaml.safe_dump(settings))
    with monkeypatch.context() as patch:
        patch.setattr("iqlft.training.finetune.finetune", mock.Mock(side_effect=error))
        assert main("run", "--config", "both.yaml", "--quiet")[0] == code
    code, _, errors = main("resume", "runs/antmaze-corner/iql-s0")
    assert code == 2
    (command,) = re.findall(r"fine-tune it with `iqlft (finetune .*)`", errors)
    _, output, _ = main(*command.split(), "--print-config")
    assert yaml.safe_load(output)["env_steps"] == 77


def test_a_run_that_is_refused_leaves_an_existing_one_alone(
    main: Main, fresh: Path, corner: str
) -> None:
    assert corner
    there = sorted(fresh.rglob("*"))
    code, _, errors = main("run", "--task", "antmaze-corner", "--dataset", corner)
    assert (code, "exists" in errors) == (2, True), errors
    assert sorted(fresh.rglob("*")) == there


def test_checkpoints_are_kept_and_evaluated(
    main: Main, corner: str, pretraining: PretrainConfig
) -> None:
    assert corner
    settings = to_dict(pretraining) | {
        "runs": "runs", "num_updates": 40, "eval_every": 20, "checkpoint_every": 10,
        "keep_every": 15, "keep_best": True, "keep_checkpoints": 1,
    }  # fmt: skip
    Path("kept.yaml").write_text(yaml.safe_dump(settings))
    code, output, errors = main("pretrain", "--config", "kept.yaml", "--quiet")
    folder = Path("runs/antmaze-corner/iql-s0")
    assert (code, errors) == (0, "")
    assert output.startswith("Pretrained: ")  # Nothing else.
    assert output.count("\n") == 2
    log = (folder / "logs" / "learner.log").read_text()
    assert "transitions the episode has reached its goal" in log
    assert log.count(" INFO Evaluated after ") == 2
    names = {each.name for each in (folder / "checkpoints").iterdir()}
    assert names >= {"000000015", "000000030"}
    assert not names & {"000000010", "000000020"}
    successes = [float(row["success"]) for row in curves(folder)]
    best = 20 * (1 + successes.index(max(successes)))  # The first of them.
    for name, updates in (("15", 15), ("000000030", 30), ("best", best), ("", 40)):
        chosen = ["--checkpoint", name] if name else []
        code, output, _ = main("evaluate", folder, "--episodes", "2", "--json", *chosen)
        found = json.loads(output)
        assert (code, found["updates"], len(found["episodes"])) == (0, updates, 2)
    sentence = refused(main, "evaluate", folder, "--checkpoint", "16")
    assert "no checkpoint 16" in sentence
    assert "000000015, 000000030" in sentence


def test_plot_draws_into_the_run_or_elsewhere(main: Main, finetuned: Path) -> None:
    code, output, errors = main("plot", finetuned, "--out", "figures")
    assert (code, errors) == (0, "")
    drawn = [Path(line.removeprefix("Drew ")) for line in output.splitlines()]
    assert {path.suffix for path in drawn} >= {".png", ".pdf"}
    assert all(path.stat().st_size > 1000 and path.parent == Path("figures") for path in drawn)


def test_plot_draws_any_metric_into_a_file_of_any_kind(main: Main, finetuned: Path) -> None:
    code, output, errors = main(
        "plot",
        finetuned,
        "--metric",
        "q_mean",
        "--x",
        "seconds",
        "--out",
        "fig.svg",
        "--title",
        "T",
    )
    assert (code, output, errors) == (0, "Drew fig.svg\n", "")
    assert Path("fig.svg").read_text().startswith("<?xml")
    sentence = refused(main, "plot", finetuned, "--metric", "critic/p")
    assert "Did you mean 'critic/q'?" in sentence


@pytest.mark.parametrize("place", ["runs", "elsewhere"])
def test_several_runs_are_drawn_beside_them(
    main: Main, make_run: Callable[..., Path], tmp_path: Path, place: str
) -> None:
    runs = [make_run(seed=seed, root=tmp_path / place) for seed in (0, 1)]
    assert main("plot", *runs)[0] == 0
    assert (tmp_path / place / "plots" / "before_after.png").is_file()


def test_runs_outside_of_their_task_s_folder_are_drawn_beside_them(
    main: Main, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = tmp_path / "work" / "fin", tmp_path / "work" / "other runs" / "copy"
    second.parent.mkdir(parents=True)
    make_run().rename(first)
    make_run(seed=1).rename(second)
    assert main("plot", first, second)[0] == 0
    assert (tmp_path / "work" / "plots" / "before_after.png").is_file()
    assert not (tmp_path / "plots").exists()


def test_runs_in_a_folder_of_their_own_below_runs_are_drawn_there(
    main: Main, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    for seed in (0, 1):
        make_run(seed=seed, root=tmp_path / "runs" / "ablations")
    assert main("plot", "runs/ablations")[0] == 0
    assert Path("runs/ablations/plots/before_after.png").is_file()


def test_a_folder_without_an_evaluation_is_never_left_out_silently(
    main: Main, make_run: Callable[..., Path]
) -> None:
    run, begun = make_run(), make_run(seed=1, offline=[])
    assert "wait for the run's first evaluation" in refused(main, "table", run, begun)
    assert "There is no run in typo" in refused(main, "table", run, "typo")
    assert main("table", run, run.parent) == main("table", run)


def test_published_marks_can_be_left_out(main: Main, make_run: Callable[..., Path]) -> None:
    run = make_run(online=[0.5, 0.9])
    pictures = []
    for published in ("same", "none"):
        assert main("plot", run, "--published", published, "--out", published)[0] == 0
        pictures.append(Path(published, "before_after.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_table_is_text_markdown_or_csv(main: Main, finetuned: Path) -> None:
    for style in ("text", "markdown", "csv"):
        code, output, errors = main("table", finetuned, "--style", style)
        assert (code, errors) == (0, "")
        assert "antmaze-corner" in output
    assert main("table", finetuned, "--style", "csv", "--out", "table.csv")[0] == 0
    assert Path("table.csv").read_text() == output


def test_report_writes_a_page_into_the_run_or_elsewhere(
    main: Main, make_run: Callable[..., Path]
) -> None:
    folder = make_run()
    code, output, errors = main("report", folder)
    looked, wrote = output.splitlines()
    assert looked.endswith(f"  Looking at {folder}.")
    assert (code, wrote, errors) == (0, f"Wrote {folder / 'plots' / 'report.html'}", "")
    assert (folder / "plots" / "report.html").stat().st_size > 10_000
    make_run(seed=1)
    page = Path("runs/plots/report.html")
    assert main("report")[1].endswith(f"\nWrote {page}\n")
    Path("file").touch()
    assert "cannot be written" in refused(main, "report", folder, "--out", "file")
    assert main("report", folder, "--out", "pages/mine.html")[1].endswith(
        "\nWrote pages/mine.html\n"
    )
    assert Path("pages/mine.html").is_file()
    assert "There is no run in nowhere" in refused(main, "report", "nowhere")


def test_evaluate_repeats_the_last_evaluation(main: Main, fresh: Path) -> None:
    code, output, errors = main("evaluate", fresh, "--episodes", "2", "--workers", "1")
    assert (code, errors) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in output.splitlines())
    last = (fresh / "curves.csv").read_text().splitlines()[-1].split(",")
    assert rows["success"].startswith(f"{100 * float(last[4]):.1f}% [")
    assert "300 updates" in rows["policy"]


def test_export_writes_a_policy_that_acts(main: Main, fresh: Path) -> None:
    code, output, errors = main("export", fresh)
    assert (code, errors) == (0, "")
    assert "iqlft.load_policy('antmaze-corner-iql-s0')" in output
    assert iqlft.load_policy("antmaze-corner-iql-s0").weights.version == 300
    assert json.loads(Path("antmaze-corner-iql-s0/policy.json").read_text())["exported_from"]


@pytest.mark.parametrize(
    ("form", "file"), [("onnx", "antmaze-corner-iql-s0.onnx"), ("torch", "my.pt2")]
)
def test_export_writes_a_file_that_needs_no_iqlft(
    form: str, file: str, main: Main, fresh: Path
) -> None:
    pytest.importorskip("onnx")
    out = () if form == "onnx" else ("--out", file)
    code, output, errors = main("export", fresh, "--to", form, *out)
    assert (code, errors) == (0, "")
    assert f"Wrote {file}" in output
    assert b'"achieved_goal"' in Path(file).read_bytes()
    assert "cannot be written" in refused(main, "export", fresh, "--to", form, "--out", "no/where")


def test_a_dataset_is_drawn_into_a_folder_that_is_there(main: Main, corner: str) -> None:
    Path("figs").mkdir()
    for out in (".", "figs/"):
        assert main("data", "plot", corner, "--out", out)[0] == 0
        drawn = sorted(path.name for path in Path(out).iterdir() if path.is_file())
        assert drawn == ["iqlft-antmaze-corner-v1.pdf", "iqlft-antmaze-corner-v1.png"]


@pytest.mark.parametrize(
    ("file", "flags", "seeds"),
    [
        ("", "--seed 5 --seeds 0 1", None),
        ("seeds: [0, 1]", "--seed 5", None),
        ("{seed: 5, seeds: [0, 1]}", "", None),
        ("seed: 5", "--seeds 0 1", (0, 1)),  # Flags replace what a file says.
        ("{seed: 0, seeds: [0, 1]}", "", (0, 1)),  # As --print-config writes it.
        ("seeds: []", "--seed 5", ()),
    ],
)
def test_a_seed_beside_several_is_refused(
    tmp_path: Path, file: str, flags: str, seeds: tuple[int, ...] | None
) -> None:
    (tmp_path / "it.yaml").write_text(file or "{}")
    arguments = ["--config", str(tmp_path / "it.yaml"), "--task", "antmaze-corner", *flags.split()]
    refusal = pytest.raises(ConfigError, match=r"--seeds 0 1 name the seeds of .*say one of them")
    with refusal if seeds is None else nullcontext():
        assert settings(PretrainConfig(), "pretrain", arguments).config.seeds == seeds


def test_what_a_machine_lacks_is_said_last(
    minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not minari_root.exists()
    monkeypatch.chdir(tmp_path)
    names = [name for name, _ in examine()]
    assert names.count("missing") >= 2
    assert "missing" not in names[: -names.count("missing")]


def test_workers_may_be_none_on_resuming() -> None:
    assert parse("resume", ResumeRun, ["runs/a/iql-s0", "--workers", "0"]).workers == 0


def test_doctor_and_data_list_say_what_is_here(main: Main, corner: str, fresh: Path) -> None:
    code, output, errors = main("doctor")
    assert (code, errors) == (0, "")
    for part in (
        "torch",
        "mujoco",
        f"{corner}: 903 transitions",
        str(fresh.relative_to(Path.cwd())),
    ):
        assert part in output
    code, output, errors = main("data", "list")
    assert (code, errors) == (0, "")
    assert corner in output
    assert "903 transitions" in output
    assert "takes no arguments" in refused(main, "doctor", "surplus")


def test_the_version_is_told(main: Main) -> None:
    code, output, _ = main("--version")
    assert code == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert output == f"iqlft {project['version']}\n"


def test_output_may_be_cut_off_by_its_reader() -> None:
    command = f"{sys.executable} -m iqlft pretrain --print-config | head -1"
    result = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=60, check=True
    )  # fmt: skip
    assert result.stdout == "device: auto\n"
    assert result.stderr == ""


def test_settings_of_fine_tuning_are_not_those_of_pretraining(
    main: Main, lockstep: FinetuneConfig, fresh: Path
) -> None:
    Path("fine.yaml").write_text(to_yaml(dataclasses.replace(lockstep, env_steps=7)))
    shutil.rmtree(fresh / "plots")
    code, output, _ = main("finetune", fresh, "--config", "fine.yaml", "--print-config")
    assert code == 0
    assert yaml.safe_load(output)["env_steps"] == 7
    assert yaml.safe_load(output)["run"] == [str(fresh)]


def test_a_task_named_in_a_file_brings_its_dataset(main: Main, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: antmaze-medium-play\nexpectile: 0.8\n")
    _, output, _ = main("pretrain", "--config", tmp_path / "mine.yaml", "--print-config")
    settings = yaml.safe_load(output)
    assert settings["dataset"] == ["iqlft/antmaze/medium-play-v1"]
    assert settings["expectile"] == 0.8


def test_an_actor_too_large_for_the_wire_is_refused_before_training(
    main: Main, small: Path, corner: str
) -> None:
    del corner
    sentence = refused(main, "pretrain", "--config", small, "--hidden-size", "1100")
    assert "too large" in sentence
    assert "--hidden-size" in sentence


def test_what_an_environment_prints_is_not_among_the_json(
    main: Main, tmp_path: Path, make_weights: Callable[..., ActorWeights],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "loud.py").write_text(
        "import gymnasium\nprint('loud')\n"
        "gymnasium.register('Loud-v0', 'own_environments:Skewed', max_episode_steps=9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    folders = f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"
    monkeypatch.setenv("PYTHONPATH", folders, prepend=os.pathsep)
    save_policy(tmp_path / "policy", make_weights(2, 2), EnvironmentSpec("loud:Loud-v0"), {})
    code, output, errors = main("evaluate", "policy", "--episodes=1", "--workers=1", "--json")
    assert (code, len(json.loads(output)["episodes"])) == (0, 1)
    assert "loud\n" in errors


def test_names_with_control_characters_are_shown_with_escapes(main: Main) -> None:
    code, output, errors = main("doct\x1b[2Jor")
    assert (code, output) == (2, "")
    assert "\x1b" not in errors
    code, output, errors = main("resume", "run\x1b]0;t\a\udcff")
    assert "There is no run in run\\x1b]0;t\\x07\\udcff (no meta.json)" in errors
    assert "\a" not in errors
    assert "There is no run in runs/:dog:-0:100:5 " in main("resume", "runs/:dog:-0:100:5")[2]


@pytest.mark.parametrize("command", ["pretrain", "finetune", "run", "resume"])
@pytest.mark.parametrize("port", [-1, 65535, 70000])
def test_a_port_that_there_cannot_be_is_refused_first(command: str, port: int, main: Main) -> None:
    arguments = ["no-run"] if command == "resume" else ["--print-config"]
    sentence = refused(main, command, *arguments, f"--port={port}")
    assert f"--port is {port}, but must lie in [0, 65534]" in sentence


def test_ports_of_several_runs_must_all_be_there(main: Main, corner: str) -> None:
    assert corner
    flags = ("--task=antmaze-corner", "--port=65530", "--seeds", "0", "1", "2", "3")
    assert "each run takes two ports" in refused(main, "pretrain", *flags)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [("evaluate", "run", "--workers=0"), ("video", "run", "--episodes=-1"),
     ("keys", "new", "keys", "--workers=0"), ("data", "make", "antmaze-umaze", "--processes=0")],
)  # fmt: skip
def test_numbers_out_of_their_bounds_are_refused_first(
    arguments: tuple[str, ...], main: Main
) -> None:
    assert "but must be at least 1" in refused(main, *arguments)


def test_a_table_is_written_through_a_link_and_into_no_folder(
    main: Main, finetuned: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("target")
    assert main("table", finetuned, "--out", "link")[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert "antmaze-corner" in (tmp_path / "target").read_text()
    assert main("table", finetuned, "--out", "/dev/null")[0] == 0
    assert Path("/dev/null").is_char_device()
    (tmp_path / "folder").mkdir()
    assert "choose another place with --out" in refused(main, "table", finetuned, "--out", "folder")


@pytest.mark.usefixtures("minari_root")
def test_a_second_demonstration_is_a_new_run(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iqlft.cli.demo.TRANSITIONS", 301)
    sizes = ("--num-updates", "4", "--env-steps", "4", "--hidden-size", "8", "--batch-size", "8")
    few = ("--eval-episodes", "1", "--eval-every", "4", "--workers", "1", "--no-tensorboard")
    for _ in range(2):
        assert main("demo", *sizes, *few)[0] == 0
    made = sorted(each.name for each in Path("runs/antmaze-corner-diverse").iterdir())
    assert made == ["demo-2", "iql-s0"]
    assert "exists already" in refused(main, "demo", "--name", "demo-2", *sizes, *few)


@pytest.mark.usefixtures("corner")
def test_a_dataset_is_checked_and_drawn_by_the_name_of_its_task(main: Main) -> None:
    _, by_id, _ = main("data", "check", "iqlft/antmaze/corner-v1")
    _, by_task, _ = main("data", "check", "antmaze-corner")
    assert by_task == by_id
    assert "transitions" in by_task
    assert "D4RL/door/human-v2 is not on this machine" in refused(
        main, "data", "plot", "d4rl-door-human"
    )
