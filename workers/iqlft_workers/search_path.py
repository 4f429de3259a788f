"""Where Python finds modules: never in the current folder, unless somebody names it.

A file that lies there, perhaps in a download, must not stand in for a module of ours or of a
library. Environments and algorithms of a user's own are installed, or in a folder that PYTHONPATH
names.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

SAFE_PATH = "PYTHONSAFEPATH"
"""Variable that keeps Python from adding the current folder or a script's to its path."""


def forget_current_folder() -> None:
    """Removes the current folder from this process's path, where `python -m` has put it.

    An empty part of PYTHONPATH puts it there too; mostly that is `PYTHONPATH=$PYTHONPATH:more`.
    """
    with contextlib.suppress(FileNotFoundError):  # The folder may be gone.
        here, named = str(Path.cwd()), named_folders()
        if not sys.flags.safe_path and sys.path[:1] in ([here], [""]):
            del sys.path[0]
        if "" in os.environ.get("PYTHONPATH", "x").split(os.pathsep) and here not in named:
            sys.path[:] = [each for each in sys.path if each != here]


def named_folders() -> list[str]:
    """The folders that PYTHONPATH names in words, as absolute paths."""
    parts = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # As Python itself does: `Path.resolve` would follow links too.
    return [os.path.abspath(each) for each in parts if each]  # noqa: PTH100


def importing(*roots: Path) -> dict[str, str]:
    """Variables for a Python process like this one that never searches the current folder.

    Args:
        roots: folders of packages that it must find, besides this one, if they are not installed.
    """
    own = Path(__file__).parents[1]
    added = [str(root) for root in (*roots, own) if "site-packages" not in root.parts]
    path = [*named_folders(), *added]
    variables = {key: each for key, each in os.environ.items() if key != "PYTHONPATH"}
    return variables | {SAFE_PATH: "1"} | ({"PYTHONPATH": os.pathsep.join(path)} if path else {})


def advice(module: str) -> str:
    """What to do about a missing module, if it lies in the current folder; else empty."""
    name = module.partition(".")[0]
    if not name.isidentifier() or not (Path(f"{name}.py").exists() or Path(name).is_dir()):
        return ""
    return (
        f" There is a {name} in the current folder, which is not searched: install it, or name its "
        "folder in PYTHONPATH."
    )
