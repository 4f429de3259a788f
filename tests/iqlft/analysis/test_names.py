"""Figures call tasks and series by what tells them apart."""

import pytest

from iqlft.analysis.names import series_name
from iqlft.analysis.summary import Series
from iqlft.datasets.antmaze.tasks import REGENERATED

SHIPPED = Series("iql", "", REGENERATED)
HALF = Series("iql", "half", REGENERATED)
STRIDER = Series("iql", "", f"{REGENERATED}, walked by strider")
NOISY = Series("iql", "", f"{REGENERATED}, walked by strider, action noise 0.1")
RECORDED = Series("iql", "", "D4RL")


@pytest.mark.parametrize(
    ("series", "names"),
    [
        ([SHIPPED], ["IQL"]),
        ([SHIPPED, HALF], ["IQL", "half"]),
        ([Series("td3bc", "", ""), Series("onestep", "half", "")], ["TD3+BC", "One-step half"]),
        ([Series("mine.learning:Mine", "", ""), SHIPPED], ["Mine", "IQL"]),
        ([SHIPPED, STRIDER], ["IQL", "IQL, walked by strider"]),
        ([STRIDER, NOISY], ["IQL", "IQL, action noise 0.1"]),
        ([SHIPPED, RECORDED], [f"IQL, {REGENERATED}", "IQL, D4RL"]),
        ([STRIDER, RECORDED], [f"IQL, {REGENERATED}, walked by strider", "IQL, D4RL"]),
    ],
)
def test_a_series_is_called_by_what_tells_it_from_the_others(
    series: list[Series], names: list[str]
) -> None:
    assert [series_name(one, series) for one in series] == names
