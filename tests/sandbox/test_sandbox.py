import os
import subprocess
import sys
import time

import pytest

from prefkit.errors import PrefkitError
from prefkit.sandbox import Answer, Cell, in_parallel

CODE = Cell("prefkit.sandbox.unit_tests", seconds=0.5, memory=256, fresh=True, guarded=True)


def asked(ask, item) -> Answer:
    return ask(item)


def test_answers_come_in_the_order_of_their_items():
    items = [{"code": f"x = {n}", "test": f"assert x % 3 == 0, {n}"} for n in range(20)]
    ran = in_parallel(CODE, asked, items, per_jail=5)
    assert [answer.said == "passed" for answer in ran.results] == [n % 3 == 0 for n in range(20)]


def test_an_item_is_lost_by_its_time_or_by_its_own_hand():
    items = [{"code": code, "test": "assert 1"} for code in ("while True: pass", "import os; os._exit(0)")]
    assert in_parallel(CODE, asked, items).results == [Answer(None, "timeout"), Answer(None, "died")]


def test_sleeping_is_cut_short_by_the_clock():
    started = time.monotonic()
    cell = CODE._replace(seconds=0.05)
    assert (
        in_parallel(cell, asked, [{"code": "import time; time.sleep(99)", "test": "assert 1"}])
        .results[0]
        .lost
        == "timeout"
    )
    assert time.monotonic() - started < 20


def test_nothing_of_an_item_lives_on():
    marker = f"straggler-{os.getpid()}"
    orphan = f"import os, subprocess, time\nsubprocess.Popen(['sh', '-c', 'sleep 987; : {marker}'])\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(987)\n    os._exit(0)"
    in_parallel(CODE, asked, [{"code": orphan, "test": "assert 1"}])
    told = subprocess.run(["ps", "-eo", "ppid,stat,args"], capture_output=True, text=True, check=True).stdout
    mine = [line for line in told.splitlines() if line.split()[0] == str(os.getpid())]
    assert [line for line in mine if "sandbox.server" in line] == []
    assert [line for line in told.splitlines() if marker in line and "ps " not in line] == []


def test_folders_do_not_stay_behind(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    code = "import os\nfor n in range(50):\n    os.mkdir('d'); os.chdir('d')\nos.chmod('.', 0)"
    in_parallel(CODE, asked, [{"code": code, "test": "assert 1"}])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_named_with_the_line_that_installs_it():
    cell = Cell("prefkit.sandbox.not_there", extra="verify")
    with pytest.raises(PrefkitError, match=r"'prefkit\.sandbox\.not_there' is not installed"):
        in_parallel(cell, asked, [1])


def test_the_server_starts_without_anything_heavy():
    program = "import sys, prefkit.sandbox.server; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) & {"numpy", "pyarrow", "pydantic", "polars", "torch"} == set()
