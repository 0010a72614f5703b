"""The spans stage: phrases, sentences and steps of both sides, by character offsets."""

import pytest
from pydantic import ValidationError

from prefkit.stages.spans import Spans
from prefkit.testing import check_stage, run_stage


def pieces(table, side):
    texts = [row[-1]["content"] for row in table[side].to_pylist()]
    spans = table[f"{side}_spans"].to_pylist()
    return [
        [(span["id"], text[span["start"] : span["end"]]) for span in row]
        for text, row in zip(texts, spans, strict=True)
    ]


def test_phrases_that_replace_each_other_share_an_id(make_pairs):
    pairs = make_pairs(chosen=["The sky is blue", "same"], rejected=["The sky is green and low", "same"])
    out = check_stage(Spans(), pairs)
    assert pieces(out, "chosen") == [[(1, "blue")], []]
    assert pieces(out, "rejected") == [[(1, "green and low")], []]
    (span,) = out["chosen_spans"][0].as_py()
    assert (span["kind"], span["value"]) == ("phrase", None)


def test_sentences_wait_for_a_judge(make_pairs):
    pairs = make_pairs(chosen=["It is so. I saw it.", "No"], rejected=["Maybe. Or not!", ""])
    out = check_stage(Spans(kind="sentence"), pairs)
    assert pieces(out, "chosen") == [[(1, "It is so."), (2, " I saw it.")], [(1, "No")]]
    assert pieces(out, "rejected") == [[(1, "Maybe."), (2, " Or not!")], []]
    assert {span["value"] for row in out["chosen_spans"].to_pylist() for span in row} == {None}


def test_steps_are_numbered_by_depth_and_the_deepest_may_be_joined(make_pairs):
    pairs = make_pairs(chosen=["a\nb\nc", "x"], rejected=["a\nd", "y"])
    assert pieces(check_stage(Spans(kind="step"), pairs), "chosen")[0] == [(1, "a\n"), (2, "b\n"), (3, "c")]
    assert pieces(check_stage(Spans(kind="step", most=2), pairs), "chosen")[0] == [(1, "a\n"), (2, "b\nc")]
    out = check_stage(Spans(kind="step", separator="b"), pairs)
    assert pieces(out, "chosen")[0] == [(1, "a\nb"), (2, "\nc")]


def test_kinds_stand_side_by_side_and_a_kind_is_written_anew(make_pairs):
    pairs = make_pairs(chosen=["One. Two", "a b"], rejected=["One. Too", "a c"])
    out = check_stage(Spans(kind="sentence"), check_stage(Spans(), pairs))
    kinds = [[span["kind"] for span in row] for row in out["chosen_spans"].to_pylist()]
    assert kinds == [["phrase", "sentence", "sentence"], ["phrase", "sentence"]]
    assert check_stage(Spans(), out)["chosen_spans"][1].as_py()[-1]["kind"] == "phrase"
    assert len(check_stage(Spans(), out)["chosen_spans"][1]) == 2


def test_a_pair_without_a_phrase_is_counted_and_kept_or_dropped(make_pairs):
    pairs = make_pairs(chosen=["same", "one"], rejected=["same ", "two"])
    kept = run_stage(Spans(), pairs)
    assert (kept.table.num_rows, kept.notes) == (2, {"spans/no-phrase": 1})
    dropped = run_stage(Spans(without="drop"), pairs)
    assert (dropped.table["id"].to_pylist(), dropped.notes) == (["r001"], {"dropped/no-span": 1})
    check_stage(Spans(without="drop"), pairs)


def test_only_the_last_turn_is_marked(make_pairs):
    pairs = make_pairs(2)
    turns = [
        [
            {"role": "assistant", "content": "let me look"},
            {"role": "tool", "content": "5"},
            {"role": "assistant", "content": "it is 5"},
        ]
    ] * 2
    pairs = pairs.set_column(pairs.schema.get_field_index("chosen"), "chosen", [turns])
    pairs = pairs.cast(make_pairs(2).schema)
    out = check_stage(Spans(kind="sentence"), pairs)
    assert pieces(out, "chosen") == [[(1, "it is 5")]] * 2


def test_a_missing_response_has_no_spans(make_pairs):
    pairs = make_pairs(chosen=[None, "a"], rejected=["b", None])
    out = check_stage(Spans(), pairs)
    assert [len(row) for row in out["chosen_spans"].to_pylist()] == [0, 1]


def test_texts_too_long_to_compare_are_counted(make_pairs):
    long = " ".join(["word"] * 20_001)
    out = run_stage(Spans(), make_pairs(chosen=[long, "a"], rejected=["b", "c"]))
    assert out.notes == {"spans/too-long-to-compare": 1}


@pytest.mark.parametrize("config", [{"kind": "token"}, {"separator": "x"}, {"most": 3}, {"separator": ""}])
def test_settings_that_make_no_sense_are_refused(config):
    with pytest.raises(ValidationError):
        Spans.model_validate(config)
