"""The redact stage: every text alike, once is enough, and nothing stale goes on."""

from prefkit.stages.redact import Redact
from prefkit.testing import check_stage, run_stage


def said(table, name):
    return [None if row is None else [turn["content"] for turn in row] for row in table[name].to_pylist()]


def test_all_sides_are_redacted_alike_and_twice_changes_nothing(make_pairs):
    pairs = make_pairs(
        chosen=["ask ann@firm.de", "nothing here", None],
        rejected=["ann@firm.de or 4111 1111 1111 1111", "call +44 20 7946 0958", "x"],
        ref_chosen_logp=[-1.0, -2.0, -3.0],
        ref_rejected_logp=[-1.0, -2.0, -3.0],
    )
    out = check_stage(Redact(), pairs)
    assert said(out, "chosen") == [["ask [email]"], ["nothing here"], None]
    assert said(out, "rejected") == [["[email] or [card]"], ["call [phone]"], ["x"]]
    assert out["ref_chosen_logp"].to_pylist() == [None, -2.0, -3.0]
    assert out["ref_rejected_logp"].to_pylist() == [None, None, -3.0]
    assert run_stage(Redact(), out).table.equals(out)
    assert run_stage(Redact(), pairs).notes == {
        "redact/rows": 2,
        "redact/email": 2,
        "redact/card": 1,
        "redact/phone": 1,
    }


def test_kinds_can_be_chosen_and_counts_of_changed_responses_go(make_responses):
    responses = make_responses({"p": [1.0] * 2}, {"p": ["8.8.8.8 a@firm.de", "fine"]}, n_tokens=[5, 6])
    out = check_stage(Redact(what="ip"), responses)
    assert said(out, "response") == [["[ip] a@firm.de"], ["fine"]]
    assert out["n_tokens"].to_pylist() == [None, 6]
