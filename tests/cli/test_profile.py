"""Times: in manifests always, and as a table by `--profile`."""

import json
import re
from pathlib import Path

from prefkit.cli import run
from prefkit.manifest import Made, Manifest, Timing
from prefkit.store import Store

ENGINES = ("--engine", "policy=fake", "--engine", "reward=fake")


def test_every_manifest_says_where_its_seconds_went(cli, finished):
    store = Store("runs")
    for ref in store.refs("small"):
        manifest = store.manifest(ref)
        timing = manifest.made.timing
        parts = timing.reading + timing.working + timing.filing + timing.counting
        assert 0 < parts <= timing.wall + 0.001
        assert timing.wall - parts < 0.5
        assert timing.filing > 0
        assert timing.counting > 0
        assert timing.peak_bytes > 10_000_000
        assert manifest.rows_per_second == manifest.rows.read / timing.wall


def test_a_manifest_from_before_times_were_taken_is_read_and_written_as_it_was(cli, finished):
    manifest = Store("runs").resolve("small/pair")
    plain = manifest.model_dump(mode="json")
    assert plain["made"].pop("timing")
    old = Manifest.model_validate(plain)
    assert old.made.timing == Timing()
    assert old.rows_per_second is None
    assert old.model_dump(mode="json") == plain
    assert "timing" not in Made(prefkit="1", python="3").model_dump()


def test_a_profile_says_what_each_step_took_and_what_was_cached(cli, finished, capsys):
    assert run(["build", "small.yaml", *ENGINES, "--profile", "--refresh", "pair"]) == 0
    err = capsys.readouterr().err
    table = err[err.index("where the time went") :].splitlines()
    assert re.match(
        r"step +wall +share +cpu +rows/s +reading +stage +models +filing +counting +peak$", table[1]
    )
    rows = {line.split()[0]: line for line in table[2:11]}
    assert rows["03-score"].split() == ["03-score", "cached"]
    assert re.match(r"04-pair +\d+\.\d\d s +\d+ % +\d", rows["04-pair"])
    assert "in all" in err
    assert len(re.findall(r"(?m)^ +\d+\.\d\d s +[\d ]+  \S", err)) == 10
    assert err.index("where the time went") < err.index("next:")


def test_a_profile_tells_how_long_each_model_was_waited_for(cli, capsys):
    assert run(["build", "small.yaml", *ENGINES, "--profile"]) == 0
    err = capsys.readouterr().err
    assert re.search(r"01-sample  test/policy: \d+\.\d\d s for 40 calls, 0 remembered", err)


def test_a_log_holds_the_profile_too(cli):
    cli.ok("build", "small.yaml", *ENGINES, "--profile", "--log", "log.jsonl")
    found = [json.loads(line) for line in Path("log.jsonl").read_text(encoding="utf-8").splitlines()]
    (profile,) = [one for one in found if one["event"] == "profile"]
    assert len(profile["functions"]) == 10


def test_a_recipe_with_a_mistake_has_an_error_and_no_table(cli):
    assert cli.fails("build", "small.yaml", "--profile", "--set", "build.pair.kind=odd").hint
