"""Updates and environment steps keep to their ratio, within the slack, and never wait in vain."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqlft.training.pacing import Pacing, env_steps_for, updates_for

RATIOS = st.sampled_from([0.25, 0.3, 0.5, 1.0, 2.0, 4.0])


@given(
    ratio=RATIOS,
    slack=st.sampled_from([0, 1, 7, 64]),
    total=st.integers(1, 120),
    coins=st.lists(st.booleans(), max_size=400),
)
def test_neither_side_outruns_the_other_and_one_of_them_may_always_go_on(
    ratio: float, slack: int, total: int, coins: list[bool]
) -> None:
    pacing = Pacing(ratio, slack, total)
    exact = Fraction(ratio).limit_denominator(100)
    turns = iter(coins)
    while not pacing.finished():
        may_step = pacing.env_steps < pacing.allowance()
        may_update = pacing.may_update()
        assert may_step or may_update, "both sides wait"
        if may_step and (not may_update or next(turns, True)):
            pacing.env_steps += 1
        else:
            pacing.updates += 1
            # The learner: G <= U * E + S, and nothing is learned before there is a step.
            assert pacing.updates <= exact * pacing.env_steps + slack
            assert pacing.env_steps >= 1
        # The workers: not a step more than what the next update needs, and the slack.
        assert exact * (pacing.env_steps - 1) < pacing.updates + 1 + slack
    assert pacing.env_steps == total
    assert pacing.updates == int(exact * total)


@pytest.mark.parametrize(
    ("env_steps", "ratio", "updates"), [(100, 0.29, 29), (1_000_000, 1.1, 1_100_000), (3, 0.5, 1)]
)
def test_a_number_of_updates_is_that_of_the_ratio_as_it_is_written(
    env_steps: int, ratio: float, updates: int
) -> None:
    assert updates_for(env_steps, ratio) == updates
    assert Pacing(ratio, 0, env_steps).total_updates == updates
    assert env_steps_for(updates, ratio, 50) == 50 + int(updates / Fraction(str(ratio)))


@pytest.mark.parametrize(
    ("ratio", "trace"),
    [(1.0, "sususu"), (2.0, "suusuusuu"), (0.5, "ssussussu")],
)
def test_in_lockstep_each_step_is_followed_by_its_updates(ratio: float, trace: str) -> None:
    pacing = Pacing(ratio, 0, trace.count("s"))
    made = ""
    while not pacing.finished():
        if pacing.may_update():
            pacing.updates += 1
            made += "u"
        else:
            assert pacing.env_steps < pacing.allowance()
            pacing.env_steps += 1
            made += "s"
    assert made == trace


@given(ratio=RATIOS, total=st.integers(1, 200), every=st.integers(1, 50))
def test_every_multiple_is_passed_exactly_once_and_in_order(
    ratio: float, total: int, every: int
) -> None:
    pacing = Pacing(ratio, 0, total, env_steps=total)
    passed = []
    for _ in range(pacing.total_updates):
        pacing.updates += 1
        if pacing.passed(every):
            passed.append(pacing.learned_steps // every)
    reached = int(pacing.total_updates / Fraction(ratio).limit_denominator(100)) // every
    if ratio <= 1:
        # An update stands for at least one step: it may skip a multiple, but never repeats one.
        assert passed == sorted(set(passed))
        assert all(1 <= each <= reached for each in passed)
    else:
        assert passed == list(range(1, reached + 1))


def test_a_ratio_that_is_no_binary_fraction_loses_no_update() -> None:
    # As floats 0.1 * 30 is 3.0000000000000004, and 0.29 * 100 is 28.999999999999996.
    assert Pacing(0.1, 0, 30).total_updates == 3
    assert Pacing(0.29, 0, 100).total_updates == 29


def test_the_allowance_ends_at_the_total() -> None:
    assert Pacing(1.0, 512, 100).allowance() == 100
    assert Pacing(0.5, 0, 100).allowance() == 2
