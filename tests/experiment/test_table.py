"""The table of what was measured: every number goes back to where it belongs."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import DataError
from prefkit.experiment.ready import read_answers
from prefkit.experiment.table import COLUMNS, grid, last_steps, pair_grid, read, rows, write

SEEDS, PROMPTS, SAMPLES = 4, 5, 3
CELLS = list(itertools.product(range(SEEDS), range(PROMPTS), range(SAMPLES)))


def table_of(cells: Sequence[tuple[int, int, int]], arm: str = "a", metric: str = "score") -> pl.DataFrame:
    """One row a cell; its value tells where it belongs."""
    told = {
        "arm": [arm] * len(cells),
        "seed": [seed for seed, _, _ in cells],
        "step": [7] * len(cells),
        "metric": [metric] * len(cells),
        "of": [""] * len(cells),
        "prompt_id": [f"p{prompt}" for _, prompt, _ in cells],
        "row": [str(sample) for _, _, sample in cells],
        "value": [100.0 * seed + 10 * prompt + sample for seed, prompt, sample in cells],
    }
    return pl.DataFrame(told, schema=COLUMNS)


@given(
    there=st.lists(st.sampled_from(CELLS), unique=True),
    seeds=st.permutations(range(SEEDS)),
    prompts=st.permutations(range(PROMPTS)),
)
def test_every_value_lands_in_its_seed_prompt_and_sample_whatever_the_order(there, seeds, prompts):
    frame = pl.concat([table_of(there), table_of(CELLS, arm="b"), table_of(CELLS, metric="kl")])
    found = grid(frame, "a", "score", seeds, [f"p{prompt}" for prompt in prompts])
    most = max((sample for _, _, sample in there), default=0) + 1
    assert found.shape == (SEEDS, PROMPTS, most)
    for s, n, k in itertools.product(range(SEEDS), range(PROMPTS), range(most)):
        cell = (seeds[s], prompts[n], k)
        if cell in there:
            assert found[s, n, k] == 100 * cell[0] + 10 * cell[1] + cell[2]
        else:
            assert np.isnan(found[s, n, k])


@given(there=st.lists(st.sampled_from(CELLS), unique=True), kept=st.sets(st.integers(0, SEEDS - 1)))
def test_rows_of_other_seeds_and_prompts_are_left_out(there, kept):
    seeds, prompts = sorted(kept), ["p1", "p3"]
    found = grid(table_of(there), "a", "score", seeds, prompts)
    wanted = [cell for cell in there if cell[0] in kept and cell[1] in (1, 3)]
    assert np.isfinite(found).sum() == len(wanted)
    assert sorted(found[np.isfinite(found)]) == sorted(100.0 * s + 10 * p + k for s, p, k in wanted)


def test_what_is_measured_as_missing_stays_missing():
    frame = table_of(CELLS).with_columns(
        value=pl.when(pl.col("prompt_id") == "p2").then(float("nan")).otherwise("value")
    )
    found = grid(frame, "a", "score", range(SEEDS), [f"p{at}" for at in range(PROMPTS)])
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(np.delete(found, 2, axis=1)).all()


def test_pairs_are_placed_by_their_id_within_the_arm_whose_they_are():
    values = np.array([1.0, 2.0, np.nan])
    frame = pl.concat(
        [
            rows("accuracy", ["p", "p", "q"], ["x", "y", "z"], values + at, of).with_columns(
                arm=pl.lit("a"), seed=pl.lit(at, pl.Int64), step=pl.lit(1, pl.Int64)
            )
            for at, of in ((0, "a"), (1, "a"), (1, "b"))
        ]
    ).select(*COLUMNS)
    found = pair_grid(frame, "a", "accuracy", [1, 0], ["y", "z", "x", "w"], "a")
    np.testing.assert_equal(found, [[3, np.nan, 2, np.nan], [2, np.nan, 1, np.nan]])
    other = pair_grid(frame, "a", "accuracy", [1, 0], ["y"], "b")
    np.testing.assert_equal(other, [[3], [np.nan]])


def test_the_end_of_each_run_is_its_own():
    late = table_of([(0, 0, 0)]).with_columns(step=pl.lit(9, pl.Int64))
    found = last_steps(pl.concat([table_of(CELLS), late]))
    assert found.filter(seed=0)["step"].unique().to_list() == [9]
    assert found.filter(pl.col("seed") > 0).height == len(CELLS) * 3 // 4


def test_what_is_written_is_read_again_bit_for_bit(tmp_path):
    frame = table_of(CELLS).with_columns(value=pl.col("value") / 3)
    write(frame, tmp_path / "measured.arrow")
    write(frame, tmp_path / "measured.arrow")
    assert read(tmp_path / "measured.arrow").equals(frame)
    assert [path.name for path in tmp_path.iterdir()] == ["measured.arrow"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda _: b"", lambda _: b"no table"]
)
@pytest.mark.parametrize("name", ["measured.arrow", "answers.arrow"])
def test_a_kept_file_that_was_damaged_is_named(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / name
    write(table_of(CELLS), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="a file of this comparison cannot be read") as said:
        read(path) if name == "measured.arrow" else read_answers(path)
    assert said.value.where == str(path)
    assert "prefkit verify" in said.value.hint
