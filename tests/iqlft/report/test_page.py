"""A report is one page that needs nothing else, and says what it has to leave out."""

import base64
import html
import io
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actors import gaussian
from iqlft.analysis.table import show_row, table_rows
from iqlft.figures.panels import Timeline
from iqlft.report.page import _surveys, timeline, write_report
from iqlft.report.run_data import RunData
from iqlft.runs.curves import read_run
from iqlft.runs.folder import Run
from iqlft.runs.metrics_log import read_history
from iqlft.runs.policy import save_policy
from iqlft_workers.actor import ActorWeights
from iqlft_workers.environment import EnvironmentSpec

VOID = {"img", "meta"}
SECTIONS = ["Diagnostics", "Where it goes", "What places are worth", "How it was made"]
MakeRun = Callable[..., Path]


class Page(HTMLParser):
    """Refuses what is not closed in order, and collects elements and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def named(self, *tags: str) -> list[str]:
        return [text for tag, text in self.texts if tag in tags]

    def attributes(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


ROWS = """\
{"phase": "offline", "updates": 1000, "env_steps": 0, "dataset/q": -1.5, "dataset/value": -1.2}
{"phase": "online", "updates": 2000, "env_steps": 500, "dataset/q": -2.5, "dataset/value": -2.1}
"""


def log(folder: Path, rows: str) -> None:
    (folder / "metrics.jsonl").write_text(rows)


def linear_actor(observation_dim: int, action_dim: int) -> ActorWeights:
    return gaussian(
        (np.zeros((observation_dim, action_dim), np.float32),),
        (np.zeros(action_dim, np.float32),),
        np.zeros(action_dim, np.float32),
        np.zeros(observation_dim, np.float32),
        np.ones(observation_dim, np.float32),
        0,
    )


def left_out(text: str) -> list[str]:
    return [html.unescape(each) for each in re.findall(r'<p class="left-out">(.*?)</p>', text)]


@pytest.fixture(scope="module")
def page(reported: Path) -> Page:
    """The report of a real run, parsed."""
    return Page(reported.read_text(encoding="utf-8"))


def test_every_section_of_a_real_run_is_there(page: Page, reported: Path) -> None:
    assert page.named("h1") == ["antmaze-corner: before and after fine-tuning"]
    assert page.named("h2") == ["Limits", "antmaze-corner, IQL, seed 0"]
    assert page.named("h3") == SECTIONS
    assert left_out(reported.read_text()) == []
    assert "regenerated with the D4RL procedure" in " ".join(page.named("li"))
    captions = " ".join(page.named("figcaption"))
    assert "newest checkpoint (470 updates) gives to 903 dataset and 340 new" in captions
    assert "first 12 evaluation episodes (seeds from 1,000,000 on)" in captions
    assert "mean over 64 transitions" in captions


def test_the_page_needs_nothing_beside_itself(page: Page, reported: Path) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "base"}
        assert "href" not in attributes
        assert attributes.get("src", "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    text = reported.read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", text)
    assert {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    } in page.attributes("meta")


def test_every_image_decodes_is_described_and_lies_beside_the_page_too(
    page: Page, reported: Path
) -> None:
    images = page.attributes("img")
    assert len(images) == 4
    for image in images:
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as opened:
            opened.load()
            width, height = opened.size
        assert len(image["alt"]) > 20
        assert int(image["width"]) / int(image["height"]) == pytest.approx(width / height, rel=0.02)
    names = {path.name for path in reported.parent.iterdir()}
    figures = ("before_after", "diagnostics", "maze", "value")
    assert names == {
        "report.html",
        *(f"{each}.{end}" for each in figures for end in ("png", "pdf")),
    }


def test_the_page_is_accessible(page: Page) -> None:
    assert page.attributes("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in (
        page.attributes("meta")
    )
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(each.get("scope") for each in page.attributes("th"))
    assert [tag for tag, _ in page.elements].count("main") == 1


def test_the_table_has_the_numbers_of_the_table(make_run: MakeRun, tmp_path: Path) -> None:
    run = read_run(make_run(online=[0.5, 0.25]))
    page = Page(write_report([run], tmp_path / "out").read_text())
    shown = page.named("th", "td")
    for row in table_rows([run]):
        for cell in show_row(row):
            assert re.sub(r"(?<!\w)-(?=\d)", "\N{MINUS SIGN}", cell) in shown
    assert page.named("p")[0].startswith("Success rate (%): 50.0 [40, 60] before, 25.0 [18, 34]")
    assert "change \N{MINUS SIGN}25.0" in page.named("p")[0]


def test_several_runs_are_announced_and_have_an_article_each_and_folders_of_their_own(
    make_run: MakeRun, tmp_path: Path
) -> None:
    runs = [
        read_run(make_run(online=[0.5, 0.9])),
        read_run(make_run(seed=1, online=[0.4, 0.8])),
        read_run(make_run(task="antmaze-medium-play")),
    ]
    out, heard = tmp_path / "out", list[str]()
    page = Page(write_report(runs, out, heard.append).read_text())
    assert heard == [f"Looking at {run.folder}." for run in runs]
    assert page.named("h1") == ["2 tasks: before and after fine-tuning"]
    assert page.named("h2") == [
        "Limits",
        "antmaze-umaze, IQL, seed 0",
        "antmaze-umaze, IQL, seed 1",
        "antmaze-medium-play, IQL, seed 0",
    ]
    assert len(page.attributes("img")) == 4
    for end in ("png", "pdf"):
        assert (out / "antmaze-umaze" / "iql-s1" / f"before_after.{end}").is_file()
    captions = " ".join(page.named("figcaption"))
    assert captions.count("the last evaluations that all seeds have, never the best") == 1
    assert captions.count("the last evaluations, never the best") == 3
    limits = page.named("li")
    assert any(each.startswith("antmaze-umaze: There are 2 seeds") for each in limits)
    assert any(each.startswith("The data are regenerated") for each in limits)


def test_runs_of_one_name_under_two_roots_keep_their_figures_apart(
    make_run: MakeRun, tmp_path: Path
) -> None:
    runs = [
        read_run(make_run(label=label, root=tmp_path / "roots" / label)) for label in ("one", "two")
    ]
    write_report(runs, tmp_path / "out")
    found = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").glob("*/**/*.pdf")]
    assert sorted(map(str, found)) == [
        f"{label}/antmaze-umaze/iql-s0/before_after.pdf" for label in ("one", "two")
    ]


def test_variants_are_named_in_headlines_and_limits(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [read_run(make_run(seed=seed, variant="half")) for seed in (0, 1)]
    page = Page(write_report([*runs, read_run(make_run(variant="union"))], tmp_path).read_text())

    headlines = [each for each in page.named("p") if each.startswith("antmaze-umaze, ")]
    assert [each.split(".")[0] for each in headlines] == [
        "antmaze-umaze, half", "antmaze-umaze, union",
    ]  # fmt: skip
    limits = page.named("li")
    assert any(each.startswith("antmaze-umaze, half: There are 2 seeds") for each in limits)
    assert any(each.startswith("antmaze-umaze, union: There is one seed") for each in limits)


def test_a_headline_says_how_far_fine_tuning_has_come(make_run: MakeRun, tmp_path: Path) -> None:
    run = read_run(make_run(online=[0.5, 0.75], env_steps=200_000))
    (headline,) = [
        each
        for each in Page(write_report([run], tmp_path).read_text()).named("p")
        if each.startswith("Success rate (%): 50.0 [40, 60] before")
    ]
    assert headline.endswith(", 75.0 [66, 82] after 200k steps, change +25.0 [12, 37]")


def test_hostile_names_are_text_wherever_they_stand(make_run: MakeRun, tmp_path: Path) -> None:
    hostile = """"><script>alert('x')</script>&amp;"""
    folder = make_run(label=hostile, online=[0.5, 0.9])
    (folder / "config.yaml").write_text(f"pretrain:\n  name: {json.dumps(hostile)}\n")
    Run.open(folder).write_meta({"host": hostile, "argv": ["iqlft", hostile], "status": hostile})
    page = Page(write_report([read_run(folder)], tmp_path / "out").read_text())

    assert "script" not in {tag for tag, _ in page.elements}
    for tag in ("td", "dd", "li", "code"):
        assert any(hostile in each for each in page.named(tag)), tag


def test_a_page_that_cannot_be_written_is_no_page_with_parts_left_out(
    make_run: MakeRun, tmp_path: Path
) -> None:
    folder = make_run()
    log(folder, ROWS)
    (tmp_path / "diagnostics.png").mkdir()
    with pytest.raises(IsADirectoryError):
        write_report([read_run(folder)], tmp_path)


# -- what is missing ----------------------------------------------------------------------------


def test_what_a_bare_run_lacks_is_said(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    (folder / "replay").mkdir()  # A run of which more was there once.
    text = write_report([read_run(folder)], tmp_path / "out").read_text()
    reasons = left_out(text)
    assert len(reasons) == len(SECTIONS)
    assert "metrics.jsonl cannot be read" in reasons[0]
    assert "There is no policy in" in reasons[1]
    assert "There is no policy in" in reasons[2]
    assert "config.yaml cannot be read" in reasons[3]
    assert Page(text).named("h3") == SECTIONS


def test_without_the_dataset_the_rest_is_shown(
    finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "none"))
    text = write_report([read_run(finetuned)], tmp_path / "out").read_text()
    advantages, visits, values = left_out(text)
    for reason in (advantages, visits, values):
        assert "iqlft/antmaze/corner-v1 is not on this machine; make it with" in reason
    assert advantages.startswith("The advantages of the dataset transitions are left out: ")
    assert visits.startswith("The visits of the dataset transitions are left out: ")
    assert "gives to 340 new transitions drawn at random" in text
    assert len(Page(text).attributes("img")) == 3
    assert "Where the agent was in new transitions, on one scale of colours, and its paths" in text


@pytest.mark.usefixtures("corner")
def test_what_is_drawn_without_the_journal_says_so(finetuned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finetuned, tmp_path / "run"))
    shutil.rmtree(folder / "replay")
    text = write_report([read_run(folder)], tmp_path / "out").read_text()
    reasons = left_out(text)
    assert len(reasons) == 3
    for what, reason in zip(("advantages", "visits", "visits"), reasons, strict=True):
        assert reason.startswith(f"The {what} of the new transitions are left out: ")
        assert "has taken 340 environment steps and holds none of their transitions" in reason
    assert "gives to 903 dataset transitions drawn at random" in text
    assert "Where the agent was in dataset transitions, on one scale of colours" in text
    assert len(Page(text).attributes("img")) == 4


def test_how_many_of_the_new_transitions_are_left_is_said(finetuned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finetuned, tmp_path / "run"))
    journal = folder / "replay" / "journal"
    os.truncate(journal, journal.stat().st_size // 2)
    surveys, left_out = _surveys(RunData(Run.open(folder)), "The visits")
    there = surveys["new"].num_transitions
    assert 0 < there < 340
    assert left_out.endswith(
        f"Of the 340 new transitions {there} are here: the others are left out, for they are lost, "
        "or were dropped on purpose."
    )


def test_without_transitions_there_are_the_paths_alone(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "none"))
    text = write_report([read_run(fresh)], tmp_path / "out").read_text()
    assert "The paths of the agent in the first 12 evaluation episodes" in text


def test_the_switch_is_that_of_the_evaluations_and_no_lag_is_told_of_without_one(
    make_run: MakeRun, tmp_path: Path
) -> None:
    folder = make_run(online=[0.5, 0.6], updates=1500, env_steps=700)
    log(folder, ROWS)
    page = Page(write_report([read_run(folder)], tmp_path / "out").read_text())
    words = " ".join([*page.named("figcaption"), *(img["alt"] for img in page.attributes("img"))])
    assert "Mean Q of the target critics" in words
    assert "lag" not in words.lower()
    assert timeline(read_run(folder), read_history(folder)) == Timeline(1500, 700)


def test_a_task_without_a_maze_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(task="pendulum", metric="normalized_score")
    save_policy(folder / "policy", linear_actor(3, 1), EnvironmentSpec("Pendulum-v1"), {})
    reasons = left_out(write_report([read_run(folder)], tmp_path / "out").read_text())
    for reason in reasons[1:3]:
        assert reason == (
            "Left out: Pendulum-v1 has no maze whose places are observed, so there is no map to "
            "draw."
        )


def test_a_maze_whose_places_are_not_observed_has_no_map(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    spec = EnvironmentSpec("iqlft/AntMaze-Corner-v0", observation_keys=("observation",))
    save_policy(folder / "policy", linear_actor(27, 8), spec, {})
    reasons = left_out(write_report([read_run(folder)], tmp_path / "out").read_text())
    assert "iqlft/AntMaze-Corner-v0 has no maze whose places are observed" in reasons[1]


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        (["actor/log_std"], "log standard deviation"),
        (["dataset/q", "policy_lag"], "Q, policy lag"),
        (["dataset/q", "dataset/value", "actor/log_std"], "Q, V, log standard deviation"),
    ],
)
def test_a_caption_speaks_of_nothing_that_the_algorithm_lacks(
    make_run: MakeRun, tmp_path: Path, keys: list[str], shown: str
) -> None:
    folder = make_run()
    row = {"phase": "offline", "updates": 100, "env_steps": 0, **dict.fromkeys(keys, 0.5)}
    log(folder, json.dumps(row) + "\n")
    page = Page(write_report([read_run(folder)], tmp_path / "out").read_text())
    alts = [str(each["alt"]) for each in page.attributes("img")]
    assert any(alt.startswith(f"{shown} over training") for alt in alts)


def test_what_is_seen_is_said_for_those_who_do_not_see_it(
    make_run: MakeRun, tmp_path: Path
) -> None:
    folder = make_run()
    rows = [
        {"phase": "offline", "updates": n, "env_steps": 0, "critic/loss": 1.0 / n,
         "dataset/q": -10.0 * n, "updates_per_second": 50.0}
        for n in (100, 200)
    ]  # fmt: skip
    log(folder, "".join(json.dumps(row) + "\n" for row in rows))
    page = Page(write_report([read_run(folder)], tmp_path / "out").read_text())
    first, second = (str(each["alt"]) for each in page.attributes("img"))
    assert "Success rate (%): 50.0 [40, 60] before; not fine-tuned." in first
    assert second == (
        "Q, speeds, losses over training: mean Q on the dataset from \N{MINUS SIGN}1e+03 to "
        "\N{MINUS SIGN}2e+03."
    )


def test_several_runs_have_contents_that_lead_to_them(make_run: MakeRun, tmp_path: Path) -> None:
    folders = [make_run(seed=seed) for seed in (0, 1)]
    runs = [read_run(each) for each in folders]
    text = write_report(runs, tmp_path / "out").read_text()
    for number in (1, 2):
        assert f'<a href="#run-{number}">antmaze-umaze, IQL, seed {number - 1}</a>' in text
        assert f'<article id="run-{number}">' in text
    assert "<nav" not in write_report(runs[:1], tmp_path / "one").read_text()
    assert "prefers-color-scheme: dark" in text
