import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit import rng

GOLDEN = json.loads((Path(__file__).parent / "golden" / "rng.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["uniform"])
def test_uniform_gives_the_worked_numbers(case):
    found = rng.uniform(case["seed"], case["stage"], [case["key"]], case["draw"])[0]
    assert found == pytest.approx(case["u"], abs=5e-7)


@given(st.lists(st.text(), min_size=1, max_size=20), st.integers(0, 2**31))
def test_a_draw_does_not_depend_on_its_neighbours(keys, seed):
    together = rng.uniform(seed, "sample", keys)
    alone = [rng.uniform(seed, "sample", [key])[0] for key in keys]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < 1)).all()


def test_uniform_is_uniform():
    draws = rng.uniform(0, "sample", [str(key) for key in range(20_000)])
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert (((counts - 1000) ** 2) / 1000).sum() < 50, "chi-square with 19 degrees of freedom"


def test_child_ids_tell_parents_apart_where_joining_would_not():
    assert rng.child_id("ab", "c") != rng.child_id("a", "bc")
    assert rng.child_id("a") == rng.child_id("a")
    assert len(rng.child_id("a")) == 32


def test_an_engine_seed_fits_31_bits_and_follows_its_address():
    seeds = {rng.draw_seed(0, "sample", "p", draw) for draw in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)
