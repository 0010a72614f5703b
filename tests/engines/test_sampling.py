import numpy as np
import pytest
import torch

from prefkit.engines.sampling import Knobs, choose, uniforms


def knobs(rows: int, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> Knobs:
    return Knobs(
        torch.full((rows,), temperature, dtype=torch.float64),
        torch.full((rows,), top_p, dtype=torch.float64),
        torch.full((rows,), top_k, dtype=torch.int64),
    )


def drawn(probabilities: list[float], draws: list[float], **settings) -> list[int]:
    """Draw once for each number, all from the same distribution."""
    logits = torch.tensor(probabilities).log().expand(len(draws), -1)
    return choose(
        logits, knobs(len(draws), **settings), torch.tensor(draws, dtype=torch.float64)
    ).tokens.tolist()


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
    mixed = Knobs(
        torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64),
        torch.tensor([1.0, 1.0, 0.4], dtype=torch.float64),
        torch.tensor([0, 0, 0]),
    )
    draws = torch.tensor([0.0, 0.0, 0.999], dtype=torch.float64)
    assert choose(logits, mixed, draws).tokens.tolist() == [1, 0, 1]


def test_log_probs_are_those_at_temperature_one_whatever_is_kept():
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
    chosen = choose(logits, knobs(1, temperature=0.1, top_k=1), torch.tensor([0.9], dtype=torch.float64))
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
