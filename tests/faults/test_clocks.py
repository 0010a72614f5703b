"""Clocks that jump by years, in the middle of a build too, and files whose dates say nothing."""

import os
import shutil
from pathlib import Path

import pytest

LIBRARY = next(Path("/usr/lib").rglob("libfaketime.so.1"), None)
YEARS = 365 * 86400
needs_faketime = pytest.mark.skipif(
    LIBRARY is None and os.environ.get("CI") != "true",
    reason="libfaketime is not installed: apt-get install faketime",
)


@pytest.fixture
def whole(bench):
    return bench.unbroken()


def faked(folder: Path, date: str) -> dict[str, str]:
    """Return the environment in which it is another date, which the file `now` can change at any moment."""
    assert LIBRARY is not None, "builds are tried under other clocks, and CI must: apt-get install faketime"
    (folder / "now").write_text(f"{date}\n")
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "now"),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@needs_faketime
@pytest.mark.parametrize(("before", "after"), [("-20y", "+20y"), ("+20y", "-40y")])
def test_a_clock_that_jumps_in_the_middle_of_a_build_changes_nothing(bench, waited, whole, before, after):
    child = bench.start(*bench.command(), **faked(bench.folder, before))
    assert waited(lambda: any(Path("runs/steps").glob("*.json"))), bench.ends(child)
    (bench.folder / "now").write_text(f"{after}\n")
    code, _, err = bench.ends(child)
    assert code == 0, err
    assert "Traceback" not in err
    bench.check_whole(whole)
    assert bench.asked_twice() == [], "what another clock has filed is found"


@needs_faketime
def test_a_build_killed_in_another_year_goes_on_in_this_one(bench, waited, whole):
    child = bench.start(*bench.command(), **faked(bench.folder, "+30y"))
    assert waited(lambda: any(Path("runs/parts").glob("*.json"))), bench.ends(child)
    child.kill()
    bench.ends(child)
    bench.check_sound()
    bench.check_whole(whole)
    assert bench.asked_twice() == []


@pytest.mark.parametrize("at", [0, 4102444800])
def test_the_dates_of_files_say_nothing(bench, whole, at):
    shutil.copytree("whole", "runs")
    for path in [*Path("runs").rglob("*"), Path("prompts.jsonl")]:
        os.utime(path, (at, at))
    bench.check_whole(whole)
    assert not bench.log.exists(), "nothing is made again"


def test_a_source_that_was_edited_and_dated_back_is_read_again(bench, whole):
    bench.build()
    path = Path("prompts.jsonl")
    before = path.stat()
    text = path.read_text()
    with path.open("r+") as file:  # the same file, size and date, other words
        file.write(text.replace("Question 1", "Question 9"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_size == before.st_size
    assert bench.build()["00-data"] != whole["00-data"]
