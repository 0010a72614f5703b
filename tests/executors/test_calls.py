"""Calls in worker processes: every task once, in order, whoever is killed meanwhile."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from prefkit.errors import PrefkitError
from prefkit.executors.calls import Calls


def _noted(folder: str, task: int) -> int:
    (Path(folder) / f"{task}-{os.getpid()}").touch()
    return task * task


def _killed_once(folder: str, task: int) -> int:
    once = Path(folder) / "killed"
    if task == 3 and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return _noted(folder, task)


def _killed(_: str, task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def _fails(_: str, task: int) -> int:
    raise ValueError(f"task {task}")


def test_results_come_in_order_and_tasks_are_taken_as_they_are_needed(tmp_path):
    taken = []

    def tasks():
        for task in range(20):
            taken.append(task)
            yield str(tmp_path), task

    results = Calls(2)(_noted, tasks())
    assert next(results) == 0
    assert len(taken) <= 5
    assert list(results) == [task * task for task in range(1, 20)]
    assert taken == list(range(20))


def test_where_a_worker_is_killed_nothing_is_lost(tmp_path):
    tasks = ((str(tmp_path), task) for task in range(12))
    assert list(Calls(2)(_killed_once, tasks)) == [task * task for task in range(12)]
    begun = Counter(path.name.partition("-")[0] for path in tmp_path.glob("*-*"))
    assert set(begun) == {str(task) for task in range(12)}
    assert sum(begun.values()) - len(begun) <= 4, "only what was under way is begun again"


def test_workers_that_are_killed_whatever_they_do_are_one_clear_error(tmp_path):
    with pytest.raises(PrefkitError, match="a worker process was killed") as caught:
        list(Calls(2)(_killed, [(str(tmp_path), task) for task in range(3)]))
    assert "most often for memory" in caught.value.hint


def test_an_error_in_a_worker_is_raised_here(tmp_path):
    with pytest.raises(ValueError, match="task 0"):
        list(Calls(2)(_fails, [(str(tmp_path), 0), (str(tmp_path), 1)]))
