"""The scale on which margins are log-odds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.log_odds import log_odds_slope
from prefkit.estimators.preference import logistic

rows = st.lists(
    st.tuples(st.integers(-80, 80).map(lambda x: x / 10), st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])),
    min_size=2,
    max_size=12,
)


@settings(max_examples=150)
@given(rows)
def test_the_slope_is_where_the_likelihood_is_flat_and_mirror_images_have_the_same(given_rows):
    margin, p = np.array(given_rows).T
    try:
        slope = log_odds_slope(margin, p)
    except EstimateError:
        return
    assert slope > 0
    assert abs(float((margin * (logistic(slope * margin) - p)).sum())) < 1e-6 * max(np.abs(margin).max(), 1)
    assert log_odds_slope(-margin, 1 - p) == pytest.approx(slope, rel=1e-6)
    assert log_odds_slope(margin * 1000, p) == pytest.approx(slope / 1000, rel=1e-6)
