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
"""Variable with which Python adds neither the current folder nor a script's to its path."""


def forget_current_folder() -> None:
    """Takes the current folder off this process's path where `python -m` has put it.

    So does an empty part of PYTHONPATH, which mostly comes from `PYTHONPATH=$PYTHONPATH:more`.
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
    """This process's variables for one of Python's, which never searches the current folder.

    Args:
        roots: folders of packages that it must find, beside this one, where they are not installed.
    """
    own = Path(__file__).parents[1]
    added = [str(root) for root in (*roots, own) if "site-packages" not in root.parts]
    path = [*named_folders(), *added]
    variables = {key: each for key, each in os.environ.items() if key != "PYTHONPATH"}
    return variables | {SAFE_PATH: "1"} | ({"PYTHONPATH": os.pathsep.join(path)} if path else {})


def advice(module: str) -> str:
    """What to do where a module is missing that lies in the current folder; else nothing."""
    name = module.partition(".")[0]
    if not name.isidentifier() or not (Path(f"{name}.py").exists() or Path(name).is_dir()):
        return ""
    return (
        f" There is a {name} in the current folder, which is not searched: install it, or name its "
        "folder in PYTHONPATH."
    )
