"""The tree of errors in the documentation is the one in the code, and each says its exit code."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import iqlft
import iqlft_workers
from iqlft_workers import errors
from iqlft_workers.errors import UserError


def subclasses(error: type[UserError], depth: int = 0) -> Iterator[tuple[int, type[UserError]]]:
    for each in error.__subclasses__():
        yield depth, each
        yield from subclasses(each, depth + 1)


def test_the_tree_in_the_docstring_is_complete_and_true() -> None:
    for package in (iqlft, iqlft_workers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    ours = ("iqlft.", "iqlft_workers.")
    found = {
        (depth, each.__name__, each.__module__)
        for depth, each in subclasses(UserError)
        if each.__module__.startswith(ours)
    }
    lines = re.findall(
        r"^    ((?:\|   )*)[|`]-- (\w+) +\((.+)\)$", str(errors.__doc__), re.MULTILINE
    )
    assert {(len(indent) // 4, name, module) for indent, name, module in lines} == found
    assert len(lines) == len(found)


def test_errors_say_the_exit_code_that_is_documented() -> None:
    from iqlft.datasets.audit.findings import AuditFailedError
    from iqlft.training.interruption import Interrupted
    from iqlft.training.session import TrainingDivergedError

    assert UserError.exit_code == 2
    assert AuditFailedError.exit_code == 1
    assert TrainingDivergedError.exit_code == 3
    assert Interrupted.exit_code == 130
