"""Terms that need the whole distribution at a token, against definitions written out."""

from typing import Any

import pytest
import torch

from prefkit.objectives import TokenTerm
from prefkit.objectives.extras import EXTRAS
from prefkit.objectives.rewards import REWARDS

SOURCE = torch.Generator().manual_seed(0)
POLICY, OTHER = torch.randn(2, 4, 6, generator=SOURCE, dtype=torch.float64).log_softmax(-1)


def term(lab: Any, **piece: object) -> TokenTerm:
    (found,) = lab.objective(piece).terms()
    told: TokenTerm = found
    return told


def test_kl_to_and_from_the_reference_are_those_of_the_definition(lab: Any) -> None:
    forward = term(lab, extras=["token-kl"])
    reverse = term(lab, extras=[{"token-kl": {"direction": "policy||reference"}}])
    expected = (OTHER.exp() * (OTHER - POLICY)).sum(-1), (POLICY.exp() * (POLICY - OTHER)).sum(-1)
    assert forward.function(POLICY, OTHER, None).tolist() == pytest.approx(expected[0].tolist())
    assert reverse.function(POLICY, OTHER, None).tolist() == pytest.approx(expected[1].tolist())
    assert term(lab, reward="sequential-kl").function(POLICY, OTHER, None).tolist() == pytest.approx(
        expected[0].tolist()
    )
    for each in (forward, reverse):
        assert each.reference
        assert each.function(POLICY, POLICY, None).abs().max() < 1e-12


def test_what_a_teacher_does_not_tell_is_one_bucket(lab: Any) -> None:
    ids = torch.tensor([[0, 3], [5, 1], [2, -1], [-1, -1]])
    known = OTHER.gather(-1, ids.clamp(min=0)).where(ids >= 0, 0.0)
    found = term(lab, extras=["distill"]).function(POLICY, None, (ids, known))
    for at in (0, 1, 2):
        mine = [token for token in ids[at].tolist() if token >= 0]
        teacher, policy = OTHER[at].exp(), POLICY[at].exp()
        body = sum(teacher[token] * (teacher[token] / policy[token]).log() for token in mine)
        rest = 1 - teacher[mine].sum()
        expected = body + rest * (rest / (1 - policy[mine].sum())).log()
        assert found[at].item() == pytest.approx(expected.item())
    assert found[3].item() == 0  # the teacher says nothing of this token
    assert (found >= 0).all()


def test_a_teacher_that_tells_all_is_plain_kl_and_none_at_all_where_it_agrees(lab: Any) -> None:
    ids = torch.arange(6).expand(4, 6)
    function = term(lab, extras=["distill"]).function
    plain = (OTHER.exp() * (OTHER - POLICY)).sum(-1)
    assert function(POLICY, None, (ids, OTHER)).tolist() == pytest.approx(plain.tolist())
    assert function(POLICY, None, (ids, POLICY)).abs().max() < 1e-12


def test_the_expected_advantage_is_over_the_tokens_that_are_known(lab: Any) -> None:
    ids, values = torch.tensor([[0, 3], [5, -1], [-1, -1], [1, 2]]), torch.tensor([[0.5, -1.0]] * 4).double()
    found = term(lab, extras=["advantage"]).function(POLICY, None, (ids, values))
    said = POLICY.exp()
    expected = [0.5 * said[0, 0] - said[0, 3], 0.5 * said[1, 5], 0.0, 0.5 * said[3, 1] - said[3, 2]]
    assert found.tolist() == pytest.approx([float(one) for one in expected])
    assert term(lab, extras=["advantage"]).sides == ("rejected",)


def test_an_advantage_of_nothing_and_a_teacher_that_agrees_leave_the_sft_term(lab: Any) -> None:
    batch = lab.pairs(tokens=(8, 10), terms={"advantage": (0.0, 0.0), "teacher": (0.0, 0.0)})
    assert lab.step("adpa", batch) == pytest.approx(12 / 8)
    assert lab.step("dckd", batch) == pytest.approx(12 / 8)


def test_terms_that_pieces_share_are_computed_once(lab: Any) -> None:
    both = lab.objective({"reward": "sequential-kl", "mask": "weights", "extras": ["token-kl", "token-kl"]})
    assert sorted(each.name for each in both.terms()) == ["kl", "masked-kl"]


def test_every_term_of_the_catalogs_is_covered() -> None:
    made = [
        kind(divergence="alpha") if kind.name == "f-divergence" else kind() for kind in (*REWARDS, *EXTRAS)
    ]
    names = {each.name for piece in made for each in piece.terms()}
    assert names == {"masked-kl", "kl", "teacher", "advantage"}
