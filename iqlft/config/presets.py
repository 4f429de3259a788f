"""Presets: named sets of settings, each from one source; `--preset` lays them over the task's.

They are the sources' settings for AntMaze, as far as such settings exist here; docs/algorithm.md
lists further differences of the implementations. Each command uses only the settings that are its
own, so give the preset both for pretraining and for fine-tuning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from iqlft.config.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping


class Preset(NamedTuple):
    """A named set of settings.

    Attributes:
        source: the authors or publication that the settings are from.
        settings: values by name, including `algorithm`.
    """

    source: str
    settings: Mapping[str, Any]


_TEN = {"reward_scale": 10.0, "reward_shift": -5.0}
"""Rewards of 5 at the goal and -5 elsewhere."""
_ONE = {"reward_scale": 1.0, "reward_shift": -1.0}
"""Rewards of 0 at the goal and -1 elsewhere."""
_MILLIONS = {"num_updates": 1_000_000, "env_steps": 1_000_000, "utd_ratio": 1.0}
_HALF = {"offline_ratio": 0.5}
_WIDE = {
    "num_critics": 10,
    "num_target_critics": 2,
    "critic_layer_norm": True,
    "actor_layer_norm": True,
}
"""WSRL's networks, which the Cal-QL that it starts from must have too."""

PRESETS: dict[str, Preset] = {
    "calql-paper": Preset(
        "Cal-QL's authors (nakamotoo/Cal-QL, scripts/run_antmaze.sh)",
        {
            "algorithm": "calql",
            **_TEN,
            **_MILLIONS,
            **_HALF,
            "hidden_layers": 2,
            "critic_hidden_layers": 4,
            "output_gain": 0.01,
            "gap_min": None,
            "calibrate_online": True,
        },
    ),
    "calql-corl": Preset(
        "CORL (algorithms/finetune/cal_ql.py, configs/finetune/cal_ql/antmaze)",
        {
            "algorithm": "calql",
            **_TEN,
            **_MILLIONS,
            **_HALF,
            "hidden_layers": 3,
            "critic_hidden_layers": 5,
            "output_gain": 2**0.5,
            "gap_min": -200.0,
            "calibrate_online": False,
        },
    ),
    "cql-corl": Preset(
        "CORL (algorithms/finetune/cql.py, configs/finetune/cql/antmaze)",
        {"algorithm": "cql", **_TEN, **_MILLIONS, "offline_ratio": None},
    ),
    "rlpd-utd20": Preset(
        "RLPD's authors (ikostrikov/rlpd, README.md, D4RL AntMaze)",
        {
            "algorithm": "rlpd",
            **_ONE,
            **_HALF,
            "num_updates": 0,
            "env_steps": 300_000,
            "random_steps": 5000,
            "warmup_steps": 5000,
            "utd_ratio": 1.0,
            "critic_updates": 20,
            "num_critics": 10,
            "num_target_critics": 1,
        },
    ),
    "rlpd-fql": Preset(
        "the RLPD of the FQL paper (Park, Li, Levine, arXiv:2502.02538)",
        {
            "algorithm": "rlpd",
            **_ONE,
            **_HALF,
            "num_updates": 0,
            "env_steps": 1_000_000,
            "utd_ratio": 1.0,
            "critic_updates": 1,
            "num_critics": 2,
            "num_target_critics": 0,
            "hidden_size": 512,
            "hidden_layers": 4,
        },
    ),
    "wsrl-calql": Preset(
        "WSRL's authors (arXiv:2412.07762): the Cal-QL that WSRL goes on from",
        {"algorithm": "calql", **_TEN, "num_updates": 1_000_000, **_WIDE},
    ),
    "wsrl": Preset(
        "WSRL's authors (arXiv:2412.07762): fine-tuning without the dataset",
        {
            "algorithm": "wsrl",
            **_TEN,
            **_WIDE,
            "offline_ratio": 0.0,
            "warmup_steps": 5000,
            "env_steps": 300_000,
            "utd_ratio": 1.0,
            "critic_updates": 4,
        },
    ),
}
"""The presets by the name that `--preset` takes."""


def preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        ConfigError: there is no such preset; the message names the nearest one.
    """
    if name not in PRESETS:
        raise ConfigError(
            f"There is no preset {name!r}.{nearest(name, PRESETS)} Presets: {', '.join(PRESETS)}."
        )
    return PRESETS[name]
