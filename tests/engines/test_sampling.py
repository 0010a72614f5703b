import numpy as np
import pytest
import torch

from prefkit.engines.sampling import Knobs, choose, knobs, odds, uniforms

CPU = torch.device("cpu")


def alike(rows: int, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> Knobs:
    return knobs([(temperature, top_p, top_k)] * rows, CPU)


def drawn(probabilities: list[float], draws: list[float], **settings) -> list[int]:
    """Draw once for each number, all from the same distribution."""
    logits = torch.tensor(probabilities).log().expand(len(draws), -1)
    numbers = torch.tensor(draws, dtype=torch.float64)
    return choose(odds(logits), alike(len(draws), **settings), numbers).tokens.tolist()


def test_a_number_takes_the_token_in_whose_share_it_falls():
    assert drawn([0.2, 0.5, 0.3], [0.0, 0.19, 0.21, 0.69, 0.71, 0.999]) == [0, 0, 1, 1, 2, 2]


def test_a_token_of_no_probability_is_never_drawn():
    edges = [0.0, 0.5, np.nextafter(1.0, 0.0)]
    assert drawn([0.0, 0.5, 0.0, 0.5, 0.0], edges) == [1, 3, 3]


def test_temperature_sharpens_and_zero_takes_the_most_likely():
    assert drawn([0.4, 0.6], [0.3], temperature=1.0) == [0]
    assert drawn([0.4, 0.6], [0.3], temperature=0.5) == [0]  # .16 / .52 = .308
    assert drawn([0.4, 0.6], [0.31], temperature=0.5) == [1]
    assert drawn([0.4, 0.6], [0.0], temperature=0.0) == [1]
    assert drawn([0.4, 0.6], [0.01], temperature=1e-3) == [1]


def test_top_k_keeps_the_k_most_likely():
    assert drawn([0.2, 0.5, 0.3], [0.0, 0.62, 0.63], top_k=2) == [1, 1, 2]
    assert drawn([0.2, 0.5, 0.3], [0.0, 0.999], top_k=1) == [1, 1]


def test_top_p_keeps_the_token_that_reaches_it():
    assert drawn([0.2, 0.5, 0.3], [0.0, 0.999], top_p=0.5) == [1, 1]
    assert drawn([0.2, 0.5, 0.3], [0.0, 0.999], top_p=0.51) == [1, 2]
    assert drawn([0.2, 0.5, 0.3], [0.0, 0.999], top_p=1e-9) == [1, 1]


def test_top_p_is_of_what_top_k_left():
    assert drawn([0.1, 0.2, 0.3, 0.4], [0.0], top_k=2, top_p=0.58) == [
        2
    ]  # .4/.7 = .571 alone does not reach it
    assert drawn([0.1, 0.2, 0.3, 0.4], [0.0], top_k=2, top_p=0.57) == [3]


def test_rows_keep_their_own_settings():
    logits = torch.tensor([0.2, 0.5, 0.3]).log().expand(3, -1)
    mixed = knobs([(0.0, 1.0, 0), (1.0, 1.0, 0), (1.0, 0.4, 0)], CPU)
    draws = torch.tensor([0.0, 0.0, 0.999], dtype=torch.float64)
    assert choose(odds(logits), mixed, draws).tokens.tolist() == [1, 0, 1]


def test_log_probs_are_those_at_temperature_one_whatever_is_kept():
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
    chosen = choose(
        odds(logits), alike(1, temperature=0.1, top_k=1), torch.tensor([0.9], dtype=torch.float64)
    )
    assert chosen.logps.item() == pytest.approx(np.log(0.5), abs=1e-6)


def test_frequencies_are_the_probabilities():
    share = np.bincount(drawn([0.2, 0.5, 0.3], uniforms(7, 20_000).tolist()), minlength=3) / 20_000
    assert np.abs(share - [0.2, 0.5, 0.3]).max() < 0.012  # 3.5 standard errors


def test_a_seed_has_one_stream_on_every_machine():
    assert uniforms(0, 3).tolist() == pytest.approx(
        [0.011546754286459282, 0.24154919656271812, 0.11142585551493822]
    )
    assert (uniforms(5, 100)[:40] == uniforms(5, 40)).all()
    assert (uniforms(5, 40) != uniforms(6, 40)).all()
    assert uniforms(-1, 4).max() < 1


def by_hand(weights: np.ndarray, draw: float, top_p: float, top_k: int) -> int:
    """Sort the whole vocabulary, leave out what is to be left out, and walk to the number."""
    order = np.argsort(-weights, kind="stable")[: top_k or None]
    before = weights[order].cumsum() - weights[order]
    kept = np.zeros_like(weights)
    order = order[before < top_p * weights[order].sum()]
    kept[order] = weights[order]
    return int(np.searchsorted(kept.cumsum(), draw * kept.sum(), side="right"))


@pytest.mark.parametrize("size", [5, 127, 128, 129, 1000, 5000])
@pytest.mark.parametrize("spread", [0.05, 1.0, 4.0])
def test_large_vocabularies_are_drawn_from_as_if_they_were_sorted(size, spread):
    rows = [
        (1.0, 1.0, 0), (0.7, 1.0, 0), (1.0, 0.9, 0), (1.0, 0.999, 0), (1.0, 0.5, 200), (1.3, 1.0, 128),
        (1.0, 1.0, 3000), (1.0, 0.3, 4), (0.0, 1.0, 0),
    ]  # fmt: skip
    made = np.random.default_rng(size)
    logits = torch.from_numpy(made.normal(size=(len(rows), size)) * spread).float()
    settings = knobs(rows, CPU)
    for draw in made.random(20):
        numbers = torch.full((len(rows),), draw, dtype=torch.float64)
        tokens = choose(odds(logits), settings, numbers).tokens
        for row, (heat, top_p, top_k) in enumerate(rows):
            if heat == 0:
                assert tokens[row] == logits[row].argmax()
                continue
            weights = (logits[row] / heat).softmax(-1).double().numpy()
            assert tokens[row] == by_hand(weights, draw, top_p, top_k)


def test_of_equal_tokens_the_earlier_ones_are_kept():
    logits = torch.zeros(2, 3000)
    numbers = torch.tensor([0.0, 0.9999], dtype=torch.float64)
    for settings, most in ((knobs([(1.0, 1.0, 10)] * 2, CPU), 9), (knobs([(1.0, 0.5, 0)] * 2, CPU), 1499)):
        assert choose(odds(logits), settings, numbers).tokens.tolist() == [0, most]
