from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flyweight.cli import huge_pages
from flyweight.cli.huge_pages import HUGE_PAGES, restart_with_huge_pages, wanted, with_huge_pages

POLICIES = {"always": False, "madvise": True, "never": False}
SHOW = (
    "import os, sys; from flyweight.cli.huge_pages import restart_with_huge_pages; "
    "restart_with_huge_pages(('train',), sys.argv[1:]); "
    "print(os.environ.get('GLIBC_TUNABLES'), sys.argv[1:])"
)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    return path


@pytest.mark.parametrize("chosen", POLICIES)
def test_only_where_linux_leaves_it_to_the_program(
    policy: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36")
    policy.write_text(" ".join(f"[{each}]" if each == chosen else each for each in POLICIES))
    assert wanted({}, policy) is POLICIES[chosen]
    assert not wanted({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, policy)


@pytest.mark.parametrize(
    ("libc", "known"), [("glibc 2.34", False), ("glibc 2.35", True), (None, False)]
)
def test_only_where_glibc_knows_it(
    policy: Path, monkeypatch: pytest.MonkeyPatch, libc: str | None, known: bool
) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: libc)
    assert wanted({}, policy) is known
    assert not wanted({}, policy.parent / "missing")


def test_other_settings_are_kept() -> None:
    assert with_huge_pages("") == HUGE_PAGES
    assert with_huge_pages("glibc.malloc.check=1") == f"glibc.malloc.check=1:{HUGE_PAGES}"


def test_other_verbs_are_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "wanted", lambda environment: True)
    monkeypatch.setattr(os, "execv", lambda *arguments: pytest.fail("started again"))
    for arguments in ([], ["predict", "train"]):
        restart_with_huge_pages(("train",), arguments)


@pytest.mark.skipif(not wanted({}), reason="this system has no huge pages to ask for")
def test_the_command_is_started_again_once_with_its_arguments() -> None:
    environment = {name: os.environ[name] for name in os.environ if name != "GLIBC_TUNABLES"}
    run = subprocess.run(
        [sys.executable, "-c", SHOW, "train", "a b", "--epochs"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout == f"{HUGE_PAGES} ['train', 'a b', '--epochs']\n"
