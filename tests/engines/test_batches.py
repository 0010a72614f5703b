import hypothesis.strategies as st
from hypothesis import given

from prefkit.engines.batches import Shape, bucket, cut, shape_for

LENGTHS = st.integers(1, 5000)


@given(LENGTHS)
def test_a_bucket_leaves_an_empty_slot_and_wastes_little(tokens):
    assert tokens < bucket(tokens) <= max(tokens + 32, 1.26 * tokens + 1)


@given(LENGTHS, LENGTHS)
def test_longer_texts_never_get_a_shorter_bucket(one, other):
    assert (bucket(one) <= bucket(other)) or one > other


@given(LENGTHS, st.integers(1, 100_000))
def test_a_shape_fits_the_budget_or_is_one_row(tokens, budget):
    shape = shape_for(tokens, budget)
    assert shape.rows & (shape.rows - 1) == 0
    assert shape.rows == 1 or budget / 2 < 2 * shape.rows * shape.length <= 2 * budget or shape.rows == 256


@given(st.lists(st.sampled_from([None, Shape(2, 32), Shape(4, 32), Shape(1, 64)]), max_size=30))
def test_batches_hold_every_request_once_in_the_order_asked(shapes):
    batches = list(cut(shapes))
    seen = [position for batch in batches for position in batch.positions]
    assert sorted(seen) == [at for at, shape in enumerate(shapes) if shape is not None]
    assert all(list(batch.positions) == sorted(batch.positions) for batch in batches)
    assert all(shapes[at] == batch.shape for batch in batches for at in batch.positions)
    assert all(1 <= len(batch.positions) <= batch.shape.rows for batch in batches)


def test_work_that_is_resumed_goes_on_with_the_same_batches():
    shapes = [Shape(2, 32), Shape(2, 64), Shape(2, 32), Shape(2, 32), Shape(2, 64), Shape(2, 32)]
    whole = [batch.positions for batch in cut(shapes)]
    assert whole == [(1, 4), (0, 2), (3, 5)]
    done = {1, 4, 0, 2}
    rest = [None if at in done else shape for at, shape in enumerate(shapes)]
    assert [batch.positions for batch in cut(rest)] == whole[2:]
