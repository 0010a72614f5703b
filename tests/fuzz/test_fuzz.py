"""Every door that strangers knock at, on seeds, on mutated seeds, and on inputs that were bugs once.

`make fuzz` looks further, guided by coverage. Whatever is tried ends with a result or with an error made for it.
"""

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("fuzz_targets", HERE / "fuzz_targets.py")
TARGETS = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = TARGETS
SPEC.loader.exec_module(TARGETS)
NAMES = sorted(TARGETS.TARGETS)
SEEDS = {name: tuple(TARGETS.TARGETS[name].seeds()) for name in NAMES}
FOUND = sorted(path for path in (HERE / "found").glob("*/*") if path.is_file())
SPLICES = (b"", b"\0", b"\xff", b"[", b"{", b'"', b"]" * 40, b"[" * 400, b"9" * 5000, b"1e999", b"NaN", b"-0", b"\xed\xa0\x80",
           b"\\ud800", "\u202e".encode(), b"\x1b[2J", b"../../x", b"|", b"`", b"<script>", b"\r\n\r\n", b"null", b": ", b"\n")  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with a few stretches of it replaced, doubled or moved."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from((0, 0, 1, 2, 4, 8, 100))))
        other = draw(st.sampled_from(seeds))
        at = draw(st.integers(0, len(other)))
        new = draw(st.one_of(st.sampled_from(SPLICES), st.binary(max_size=8), st.just(other[at : at + 20])))
        data = data[:start] + new + data[end:]
    return data


def check(name: str, data: bytes) -> None:
    error = TARGETS.bug(name, data)
    assert error is None, f"{name}: {type(error).__name__}: {error} on {data[:300]!r}"


@pytest.mark.parametrize("name", NAMES)
def test_every_seed_is_taken_or_refused(name):
    assert len(SEEDS[name]) >= 3
    for data in (*SEEDS[name], b"", b"\0", bytes(range(256))):
        check(name, data)


@pytest.mark.parametrize("name", NAMES)
def test_no_mutated_seed_brings_anything_else_out(name):
    tried = 0

    @settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutated(SEEDS[name]))
    def look(data: bytes) -> None:
        nonlocal tried
        tried += 1
        check(name, data)

    look()
    assert tried >= 100


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_a_bug_once_is_none(path):
    check(path.parent.name, path.read_bytes())
