"""How to draw is found by trial, in processes that may fail without harm."""

import os

import pytest

from iqlft.video import opengl
from iqlft.video.opengl import RenderingError, find_backend


def test_a_way_that_fails_is_followed_by_one_that_works(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(opengl, "BACKENDS", ("nonsense", backend))
    before = dict(os.environ)

    assert find_backend() == backend
    assert dict(os.environ) == before


def test_where_no_way_works_the_packages_to_install_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(opengl, "BACKENDS", ("nonsense",))

    with pytest.raises(RenderingError, match=r"apt-get install libegl1 .*libosmesa6") as caught:
        find_backend()
    assert "(nonsense: RuntimeError: invalid value" in str(caught.value)


def test_without_a_driver_egl_fails_here_and_not_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/nowhere.json")

    with pytest.raises(RenderingError, match=r"here \(egl: .*Error.*unset MUJOCO_GL \(egl\), or"):
        find_backend()


def test_the_environments_choice_is_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disabled")

    with pytest.raises(RenderingError, match=r"disabled: .*unset MUJOCO_GL \(disabled\)"):
        find_backend()
