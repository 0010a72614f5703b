import json
import shutil
from decimal import Decimal

import pytest

from prefkit.engines.spend import Price
from prefkit.errors import StoreError
from prefkit.store import Store
from prefkit.why import as_data, biography

RESPONSES = [
    {"prompt": f"question {at // 3}", "response": f"It is {at}. So it is said.", "score": float(at % 3)}
    for at in range(12)
]


def fates(life, kin: str = "itself") -> dict[str, set[str]]:
    """Return what became of the rows of one kin in each step."""
    found = {
        chapter.step: {passage.fate for passage in chapter.passages if passage.kin == kin}
        for chapter in life.chapters
    }
    return {step: each for step, each in found.items() if each}


def chapter(life, stage: str):
    return next(each for each in life.chapters if each.stage == stage)


def passage(life, stage: str, id_: str):
    return next(each for each in chapter(life, stage).passages if each.id == id_)


def test_the_life_of_a_pair_goes_from_its_prompt_to_its_label(chain):
    pair = chain.rows("10-reference")[0]
    life = biography(chain.store, "small", pair["id"])
    assert (life.id, life.level, life.fate, life.step) == (pair["id"], "pair", "kept", "10-reference")
    assert life.row == pair
    assert [each.step for each in life.chapters] == list(chain.build.steps)
    assert fates(life, "ancestor")["01-sample"] == {"became", "made"}
    assert fates(life) == {
        step: {"made" if step == "05-pair" else "kept"} for step in list(chain.build.steps)[5:]
    }
    assert passage(life, "pair", pair["id"]).parents == (pair["chosen_id"], pair["rejected_id"])
    assert [wrote.column for wrote in passage(life, "margin", pair["id"]).wrote] == ["margin"]


def test_every_call_of_a_pair_is_found_with_its_answer(chain):
    pair = chain.rows("10-reference")[0]
    life = biography(chain.store, "small", pair["id"], prices={"test/policy": Price(Decimal(1), Decimal(2))})
    assert [each.note for each in life.chapters] == [""] * len(life.chapters)
    texts = [call.answer["text"] for call in chapter(life, "sample").calls]
    assert sorted(texts) == sorted(pair[side][-1]["content"] for side in ("chosen", "rejected"))
    assert chapter(life, "sample").other_calls == 2
    assert {call.about for call in chapter(life, "sample").calls} == {
        (pair["chosen_id"],),
        (pair["rejected_id"],),
    }
    scores = {call.about[0]: call.answer["numbers"][0] for call in chapter(life, "score").calls}
    assert scores == {pair[f"{side}_id"]: pair[f"{side}_score"] for side in ("chosen", "rejected")}
    (why,) = chapter(life, "rationale").calls
    assert why.answer["text"] == pair["rationales"][0]["text"]
    assert "Question" in why.asked["messages"][0]["content"]
    logps = [call.answer["logp"] for call in chapter(life, "reference").calls]
    assert logps == [pair["ref_chosen_logp"], pair["ref_rejected_logp"]]
    assert (why.engine, why.remembered) == ("fake", False)
    assert why.dollars == Decimal(why.tokens_in + 2 * why.tokens_out) / 1_000_000
    assert chapter(life, "score").calls[0].dollars is None


def test_a_judge_is_told_with_what_was_read_of_each_answer(chain):
    pair = chain.rows("10-reference")[0]
    calls = chapter(biography(chain.store, "small", pair["id"]), "judge").calls
    assert [(call.verdict.first, call.verdict.second) for call in calls] == [
        (entry["first"], entry["second"]) for entry in pair["judgements"]
    ]
    assert {call.verdict.first for call in calls} == {pair["chosen_id"], pair["rejected_id"]}
    for call, entry in zip(calls, pair["judgements"], strict=True):
        assert call.answer["text"] == entry["raw"]
        assert (call.verdict.verdict, call.verdict.p) == (entry["verdict"], entry["p"])
        assert call.verdict.counts


def test_a_dropped_row_is_told_up_to_there_with_what_decided(chain):
    short = chain.aside("filter")[0]
    life = biography(chain.store, "small", short["id"])
    assert (life.fate, life.reason, life.step) == ("dropped", "too-short", "02-filter")
    assert [each.step for each in life.chapters] == ["00-data", "01-sample", "02-filter"]
    length = len(short["response"][0]["content"])
    assert passage(life, "filter", short["id"]).decided == {"response, characters": length}
    assert [call.answer["text"] for call in chapter(life, "sample").calls] == [
        short["response"][0]["content"]
    ]


@pytest.mark.parametrize("within", ["prompt", "dataset"])
def test_of_a_duplicate_it_is_said_which_row_stayed(make, within):
    rows = [{"prompt": f"q{at // 2}", "response": "the  Same" if at % 2 else "The same"} for at in range(4)]
    made = make(f"  - dedup: {{ by: response, within: {within} }}", rows)
    for gone in made.aside("dedup"):
        life = biography(made.store, "small", gone["id"])
        same = passage(life, "dedup", gone["id"]).decided["same as"]
        kept = {row["id"]: row for row in made.rows("dedup")}[same]
        assert kept["prompt_id"] == gone["prompt_id"] or within == "dataset"


def test_a_failed_row_is_told_with_its_error_and_the_call_that_has_no_answer(make, monkeypatch):
    monkeypatch.setenv("PREFKIT_FAKE_FAILING", "question 1")
    made = make("  - score: { model: reward, as: taste }", RESPONSES, head="max_failures: 1.0")
    failed = made.aside("score")[0]
    life = biography(made.store, "small", failed["id"])
    assert (life.fate, life.step) == ("failed", "01-score")
    assert "fails on 'question 1'" in life.reason
    (call,) = life.calls
    assert call.answer is None
    assert call.asked["prompt"] == failed["prompt"]


def test_a_judge_nobody_understands_is_told_word_for_word(make):
    steps = "  - pair\n  - judge: { model: judge, retries: 1, on_parse_error: fail, swap: false }"
    made = make(steps, RESPONSES, head="max_failures: 1.0")
    failed = made.aside("judge")[0]
    life = biography(made.store, "small", failed["id"])
    assert life.reason.startswith("the judge's answer cannot be read")
    calls = chapter(life, "judge").calls
    assert [call.answer["text"] for call in calls] == [entry["raw"] for entry in failed["judgements"]]
    assert [call.verdict.flaw is not None for call in calls] == [True, True]
    assert [call.verdict.counts for call in calls] == [False, True]


def test_a_prompt_tells_all_that_became_of_it(chain):
    prompt = chain.rows("00-data")[0]["id"]
    life = biography(chain.store, "small", prompt)
    assert life.level == "prompt"
    assert len(chapter(life, "sample").calls) == 4
    assert len(chapter(life, "sample").passages) == 5
    assert chapter(life, "reference").passages[0].level == "pair"


def test_a_response_tells_the_pairs_it_went_into_or_that_there_were_none(make):
    made = make("  - pair: { kind: best-worst }", RESPONSES)
    rows = {row["score"]: row["id"] for row in made.rows("00-data")[:3]}
    best, middle = (biography(made.store, "small", rows[score]) for score in (2.0, 1.0))
    (pair,) = [row["id"] for row in made.rows("pair") if row["chosen_id"] == rows[2.0]]
    assert passage(best, "pair", rows[2.0]).became == (pair,)
    assert passage(best, "pair", pair).kin == "descendant"
    assert middle.fate == "unused"
    assert passage(middle, "pair", rows[1.0]).decided == {
        "score": 1.0,
        "score of the prompt's other rows": [0.0, 2.0],
    }


@pytest.mark.parametrize(
    "step",
    [
        "revise: { model: policy, max_edit_ratio: 1.0 }",
        "corrupt: { model: policy, max_similarity: 1.0 }",
    ],
)
def test_rows_of_stages_that_write_new_ones_know_what_they_were_made_of(make, step):
    made = make(f"  - {step}", RESPONSES)
    name = list(made.build.steps)[-1]
    rows = made.rows(name)
    assert rows
    for row in rows:
        life = biography(made.store, "small", row["id"])
        (one,) = [each for each in life.chapters[-1].passages if each.id == row["id"]]
        parents = [each for each in life.chapters[-1].passages if each.id in one.parents]
        assert one.fate == "made"
        assert parents
        assert all(row["prompt"][0]["content"] == life.prompt[0]["content"] for _ in parents)
        assert life.calls
        assert life.chapters[-1].note == ""


@pytest.mark.parametrize("step", ["degree: { levels: [0, 0.5] }", "constraints: { kinds: [response] }"])
def test_copies_of_a_pair_know_the_pair(make, step):
    texts = ("we went home, 2", "we walked along the old river until evening fell there")
    rows = [{"prompt": "tell", "response": text, "score": float(at)} for at, text in enumerate(texts)]
    made = make(f"  - pair: {{ kind: best-worst }}\n  - {step}", rows)
    pairs = {row["id"] for row in made.rows("pair")}
    copies = [row["id"] for row in made.build.table.to_pylist() if row["id"] not in pairs]
    assert copies
    for id_ in copies:
        life = biography(made.store, "small", id_)
        assert set(life.chapters[-1].passages[-1].parents) & pairs


def test_a_tree_is_told_from_its_prompt(make):
    steps = "  - tree: { model: policy, rule: length, n: 2, depth: 2, iterations: 4 }\n  - tree-pairs"
    made = make(steps, [{"prompt": "Question"}])
    nodes = made.rows("tree")
    life = biography(made.store, "small", nodes[-1]["id"])
    assert passage(life, "tree", nodes[-1]["id"]).parents[-1:] == (nodes[-1]["prompt_id"],)


def test_pairs_revised_as_pairs_lead_back_to_the_pair_before(make):
    made = make(
        "  - pair: { kind: best-worst }\n  - revise: { model: policy, max_edit_ratio: 1.0 }", RESPONSES
    )
    row = made.rows("revise")[0]
    life = biography(made.store, "small", row["id"])
    (parent,) = passage(life, "revise", row["id"]).parents
    (pair,) = [each for each in made.rows("pair") if each["id"] == parent]
    assert pair["rejected_id"] == row["rejected_id"]
    assert [call.answer["text"].strip() for call in chapter(life, "revise").calls][-1] == row["chosen"][-1][
        "content"
    ]


def test_comparisons_of_a_prompt_are_told_for_the_responses_they_show(make):
    made = make("  - judge: { model: judge, verdict: token, topology: all }", RESPONSES)
    row = made.rows("judge")[0]
    life = biography(made.store, "small", row["id"])
    found = chapter(life, "judge")
    assert found.note == ""
    assert (len(found.calls), found.other_calls) == (4, 2)
    assert all(row["id"] in (call.verdict.first, call.verdict.second) for call in found.calls)


def test_a_step_over_all_rows_shows_its_calls_and_that_others_had_a_part(make):
    steps = "  - dedup: { by: response, within: dataset, kind: embedding, model: reward, threshold: 0.99 }"
    made = make(steps, RESPONSES)
    life = biography(made.store, "small", made.rows("dedup")[0]["id"])
    (call,) = life.calls
    assert call.method == "embed"
    assert "a step over all rows" in life.chapters[-1].note


def test_a_pair_that_was_turned_says_so(make):
    rows = [
        {"prompt": f"q{at}", "chosen": "one", "rejected": "two", "chosen_score": 0.0, "rejected_score": 1.0}
        for at in range(4)
    ]
    made = make("  - label: { ops: [from-scores, orient] }", rows)
    life = biography(made.store, "small", made.rows("label")[0]["id"])
    assert life.chapters[-1].passages[0].turned


def test_without_its_memo_a_life_says_what_it_does_not_know(chain, tmp_path):
    store = Store(shutil.copytree(chain.store.root, tmp_path / "runs"))
    pair = chain.rows("10-reference")[0]
    for path in store.root.glob("memo.sqlite*"):
        path.unlink()
    life = biography(store, "small", pair["id"])
    assert fates(life)["10-reference"] == {"kept"}
    assert "the memo does not hold" in chapter(life, "score").note
    assert {call.answer for call in chapter(life, "score").calls} == {None}
    assert not list(store.root.glob("memo.sqlite*")), "nothing is written"


def test_answers_that_are_not_those_of_the_step_are_not_told(make):
    made = make("  - score: { model: reward, as: taste }", RESPONSES)
    last = made.build.last
    other = made.store.table(last).set_column(
        last_column(made), "taste", [[float(at) for at in range(len(RESPONSES))]]
    )
    shard = made.store.put(other)
    made.store.save_step(last.model_copy(update={"shards": (shard,), "digest": shard.digest}))
    life = biography(made.store, "small", other["id"][0].as_py())
    assert life.calls == ()
    assert "gives something else than is stored" in life.chapters[-1].note


def last_column(made) -> int:
    return made.store.table(made.build.last).column_names.index("taste")


def test_a_remembered_answer_says_so(make):
    steps = "  - score: { model: reward, as: taste }"
    make(steps, RESPONSES)
    made = make(
        f"{steps}\n  - filter: {{ min_chars: 1 }}\n  - score: {{ model: reward, as: again }}", RESPONSES
    )
    life = biography(made.store, "small", made.rows("score")[0]["id"])
    assert [call.remembered for call in life.calls] == [False, True]


def test_a_row_that_could_not_be_read_is_found_by_its_line(make):
    rows = [{"prompt": "fine"}, {"prompt": ""}, {"prompt": "fine too"}]
    made = make("  - split", rows)
    for word in ("rows.jsonl:2", ":2"):
        life = biography(made.store, "small", word)
        assert (life.fate, life.step, life.row["line"]) == ("dropped", "00-data", 2)
        assert life.reason
    with pytest.raises(StoreError, match="no row of the run has the id ':3'"):
        biography(made.store, "small", ":3")


def test_an_id_that_is_unknown_or_short_says_what_to_do(make):
    made = make("  - pair", RESPONSES)
    with pytest.raises(StoreError) as unknown:
        biography(made.store, "small", "zz")
    assert "--json" in unknown.value.hint
    with pytest.raises(StoreError) as several:
        biography(made.store, "small", "")
    assert "rows have an id that begins with" in several.value.what
    assert several.value.hint.startswith("say more of it: ")


def test_a_life_may_end_with_a_step(make):
    made = make("  - pair\n  - margin\n  - split", RESPONSES)
    row = made.rows("pair")[0]
    life = biography(made.store, "small/margin", row["id"][:20], calls=False)
    assert (life.step, life.fate) == ("02-margin", "kept")


def test_a_life_is_plain_json(chain):
    pair = chain.rows("10-reference")[0]
    life = biography(chain.store, "small", pair["id"], prices={"test/policy": Price(Decimal(1), Decimal(2))})
    plain = json.loads(json.dumps(as_data(life)))
    assert plain["id"] == pair["id"]
    assert plain["row"] == pair
    assert len([call for each in plain["chapters"] for call in each["calls"]]) == len(life.calls) == 9
    assert sum(
        Decimal(call["dollars"]) for each in plain["chapters"] for call in each["calls"] if call["dollars"]
    ) == (life.dollars)
