"""Tiny tables and stores that every test can read by eye."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import settings

from prefkit.columns import MESSAGES
from prefkit.store import Store

# Busy machines make single examples slow; a deadline would only measure that.
settings.register_profile("prefkit", deadline=None)
settings.load_profile("prefkit")
SHARED = Path(__file__).parents[2] / "shared" / "data"


def turns(role: str, *texts: str | None) -> pa.Array:
    rows = [None if text is None else [{"role": role, "content": text}] for text in texts]
    return pa.array(rows, MESSAGES)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public samples beside the checkout: too large, and of too many licences, to be part of it."""
    if not SHARED.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(
                "the samples of public data are not beside the checkout (shared/data), and CI needs them"
            )
        pytest.skip("the samples of public data are not beside the checkout (shared/data)")
    return SHARED


@pytest.fixture
def tmpfs(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Mount a small disk in memory, or change its options: real limits, no imitation."""
    where = tmp_path / "disk"
    where.mkdir()
    mounted = False

    def mount(options: str) -> Path:
        nonlocal mounted
        options = f"remount,{options}" if mounted else options
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        mounted = True
        return where

    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    yield mount
    if mounted:
        subprocess.run(["umount", str(where)], check=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def pairs() -> pa.Table:
    """Three pairs of two prompts."""
    return pa.table(
        {
            "id": ["a", "b", "c"],
            "prompt_id": ["p", "p", "q"],
            "prompt": turns("user", "say hi", "say hi", "say bye"),
            "chosen": turns("assistant", "hi", "hello", "bye"),
            "rejected": turns("assistant", "what", "no", "hm"),
            "chosen_score": [3.0, 2.0, 1.0],
            "rejected_score": [1.0, 2.0, None],
        }
    )


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare a text with a golden file; `make golden` rewrites the file instead."""

    def check(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / name
        if os.environ.get("PREFKIT_GOLDEN") == "write":
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{name} changed: look at it, then `make golden`"

    return check
