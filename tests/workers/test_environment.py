"""Environments that cannot be made say so in one sentence."""

import pytest

from workers.environment import Environment, EnvironmentMismatchError, EnvironmentSpec


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (EnvironmentSpec("HalfCheeta-v5"), "Did you mean 'HalfCheetah-v5'"),
        (EnvironmentSpec("no_such_package:Ant-v5"), "'no_such_package:Ant-v5' cannot be made"),
        (EnvironmentSpec("HalfCheetah-v5", kwargs={"wheels": 4}), "cannot be made with {'wheels'"),
    ],
)
def test_an_environment_that_cannot_be_made_is_refused_with_the_reason(
    spec: EnvironmentSpec, says: str
) -> None:
    with pytest.raises(EnvironmentMismatchError, match=says):
        Environment(spec)
