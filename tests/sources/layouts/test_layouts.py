"""Each layout, on a few rows with the real column names, is recognised and becomes what it means."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefkit.sources import LAYOUTS, Source, peek, read

USER = {"role": "user", "content": "What is 2 + 3?"}
GOOD = {"role": "assistant", "content": "5"}
POOR = {"role": "assistant", "content": "6"}
ATTRIBUTES = {"correctness": 4, "coherence": 4, "complexity": 1, "verbosity": 2}
STRENGTHS = [
    {"strength": 2, "statement": "@Response 2 is better.", "elaboration": "It is right."},
    {"strength": -100},
]

EXAMPLES = {
    "alpaca-eval-annotations": {
        "instruction": "What is 2 + 3?",
        "output_1": "6",
        "output_2": "5",
        "generator_1": "base",
        "generator_2": "new",
        "dataset": "koala",
        "annotator": "judge",
        "preference": 1.75,
    },
    "pandalm": {
        "instruction": "Add.",
        "input": "2 + 3",
        "response1": "6",
        "response2": "5",
        "cmp_key": "opt-7b_llama-7b",
        "annotator1": 2,
        "annotator2": 0,
        "annotator3": 2,
    },
    "pku-saferlhf": {
        "prompt": "What is 2 + 3?",
        "response_0": "6",
        "response_1": "5",
        "is_response_0_safe": True,
        "is_response_1_safe": False,
        "better_response_id": 1,
        "safer_response_id": 0,
        "prompt_source": "Alpaca3-8B",
    },
    "helpsteer2-preference": {
        "split": "train",
        "prompt": "What is 2 + 3?",
        "response_1": "6",
        "response_2": "5",
        "preference_strength": 2,
        "preference_statement": "Response 2 is better.",
        "preference_elaboration": "",
        "three_most_similar_preferences": STRENGTHS,
        "all_preferences_unprocessed": [],
    },
    "helpsteer3-preference": {
        "domain": "stem",
        "language": "english",
        "context": [USER],
        "response1": "6",
        "response2": "5",
        "overall_preference": 3,
        "individual_preference": [
            {"score": 3, "reasoning": "It is right.", "feedback1": "", "feedback2": ""}
        ],
    },
    "hh-rlhf": {
        "chosen": "\n\nHuman: What is 2 + 3?\n\nAssistant: 5",
        "rejected": "\n\nHuman: What is 2 + 3?\n\nAssistant: 6",
    },
    "sharegpt-ranking": {
        "conversations": [{"from": "human", "value": "What is 2 + 3?"}],
        "chosen": {"from": "gpt", "value": "5"},
        "rejected": {"from": "gpt", "value": "6"},
    },
    "axolotl-chat": {"messages": [USER], "chosen": GOOD, "rejected": POOR},
    "ultrafeedback-binarized": {
        "prompt": "What is 2 + 3?",
        "prompt_id": "ab12",
        "chosen": [USER, GOOD],
        "rejected": [USER, POOR],
        "messages": [USER, GOOD],
        "score_chosen": 9.0,
        "score_rejected": 2.5,
    },
    "tulu-preference": {
        "id": "personas_IF_1",
        "source": "personas",
        "prompt": "What is 2 + 3?",
        "chosen": [USER, GOOD],
        "rejected": [USER, POOR],
        "chosen_model": "gpt-4o",
        "rejected_model": "tulu-2-7b",
    },
    "trl-implicit": {"chosen": [USER, GOOD], "rejected": [USER, POOR]},
    "trl-explicit": {"prompt": [USER], "chosen": [GOOD], "rejected": [POOR]},
    "orca-pairs": {"system": "Be brief.", "question": "What is 2 + 3?", "chosen": "5", "rejected": "6"},
    "alpaca-ranking": {"instruction": "Add.", "input": "2 + 3", "chosen": "5", "rejected": "6"},
    "trl-implicit-text": {"chosen": "Two and three is 5", "rejected": "Two and three is 6"},
    "ultrafeedback": {
        "source": "evol_instruct",
        "instruction": "What is 2 + 3?",
        "models": ["alpaca-7b", "gpt-4"],
        "completions": [
            {
                "model": "alpaca-7b",
                "response": "6",
                "principle": "honesty",
                "custom_system_prompt": "Be honest.",
                "annotations": {
                    "helpfulness": {"Rating": "1", "Rationale": "Wrong."},
                    "honesty": {"Rating": "2", "Rationale": ""},
                    "instruction_following": {"Rating": "N/A", "Rationale": ""},
                    "truthfulness": [{"Rating": "3", "Rationale": ""}],
                },
                "critique": "Wrong sum.",
                "overall_score": 10.0,
                "fine-grained_score": 2.0,
            },
            {
                "model": "gpt-4",
                "response": "5",
                "annotations": {},
                "overall_score": 9,
                "fine-grained_score": None,
            },
        ],
        "correct_answers": ["None"],
    },
    "nectar": {
        "prompt": "\n\nHuman: What is 2 + 3?\n\nAssistant: ",
        "answers": [
            {"answer": "5", "model": "gpt-4", "rank": 1.0},
            {"answer": "6", "model": "opt", "rank": 2.0},
        ],
        "turns": 1,
        "num_responses": 2,
        "source": ["sharegpt"],
        "good_natured": True,
    },
    "helpsteer2-disagreements": {
        "prompt": "What is 2 + 3?",
        "response": "5",
        "helpfulness": [3, 4, 4],
        **{name: [value] * 3 for name, value in ATTRIBUTES.items()},
    },
    "helpsteer": {"prompt": "What is 2 + 3?", "response": "5", "helpfulness": 4, **ATTRIBUTES},
    "gsm8k-solutions": {
        "question": "What is 2 + 3?",
        "ground_truth": "2 + 3 = 5\nA: 5",
        "6b_finetuning": {"is_correct": False, "solution": "A: 6"},
    },
    "alpaca-eval-outputs": {
        "dataset": "koala",
        "instruction": "What is 2 + 3?",
        "output": "5",
        "generator": "new",
    },
    "trl-unpaired": {"prompt": [USER], "completion": [GOOD], "label": True},
    "kto": {"messages": [USER, GOOD], "label": True},
    "conversation": {"messages": [USER, GOOD]},
    "responses": {"prompt": "What is 2 + 3?", "response": "5", "score": 0.5, "model": "new"},
    "mt-bench-questions": {"question_id": 81, "category": "math", "turns": ["What is 2 + 3?", "And 2 + 4?"]},
    "open-conversation": {"messages": [USER]},
    "prompts": {"prompt": "What is 2 + 3?"},
}


def said(messages):
    return [turn["content"] for turn in messages]


def rows_of(name, load, write_jsonl):
    loaded = load(write_jsonl("rows.jsonl", [EXAMPLES[name]]), file="rows.jsonl")
    assert loaded.bad.num_rows == 0
    return loaded.rows


def test_every_layout_has_an_example():
    assert [layout.name for layout in LAYOUTS] == list(EXAMPLES)
    assert len(EXAMPLES) == 28


# The UltraFeedback example nests values of different types in one list, which JSON can hold and Parquet cannot.
KINDS = [
    (n, k) for n in EXAMPLES for k in ("jsonl", "json", "parquet") if (n, k) != ("ultrafeedback", "parquet")
]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_a_layout_is_recognised_whatever_the_kind_of_file(name, kind, tmp_path):
    row = EXAMPLES[name]
    if kind == "jsonl":
        (tmp_path / "rows").write_text(json.dumps(row) + "\n", encoding="utf-8")
    elif kind == "json":
        (tmp_path / "rows").write_text(json.dumps([row], indent=2), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows")
    source = Source(file="rows")
    seen = peek(source, tmp_path)
    assert seen.format == name
    batches = list(read(source, tmp_path))
    assert all(batch.table.schema == seen.schema for batch in batches)
    assert sum(batch.table.num_rows for batch in batches) >= 1
    assert sum(batch.bad.num_rows for batch in batches) == 0


@pytest.mark.parametrize(
    "layout", [layout for layout in LAYOUTS if layout.level == "pair"], ids=lambda one: one.name
)
def test_the_right_answer_is_chosen_in_every_layout_of_pairs(layout, load, write_jsonl):
    (row,) = rows_of(layout.name, load, write_jsonl)
    assert said(row["chosen"])[-1] == "5"
    assert said(row["rejected"])[-1] == "6"
    assert row["prompt"][-1]["role"] == "user"


def test_verdicts_follow_the_side_that_was_chosen(load, write_jsonl):
    (row,) = rows_of("alpaca-eval-annotations", load, write_jsonl)
    assert (row["chosen_model"], row["rejected_model"], row["domain"]) == ("new", "base", "koala")
    (vote,) = row["votes"]
    assert (vote["judge"], vote["winner"], vote["p"], vote["order"]) == ("judge", "chosen", 0.75, None)


def test_pandalm_has_one_vote_a_person_and_puts_the_input_below(load, write_jsonl):
    (row,) = rows_of("pandalm", load, write_jsonl)
    assert said(row["prompt"]) == ["Add.\n\n2 + 3"]
    assert [vote["winner"] for vote in row["votes"]] == ["chosen", "tie", "chosen"]
    assert (row["chosen_model"], row["rejected_model"]) == ("llama-7b", "opt-7b")


def test_pku_chooses_the_more_helpful_side_and_says_which_is_safer(load, write_jsonl):
    (row,) = rows_of("pku-saferlhf", load, write_jsonl)
    assert (row["chosen_safer"], row["rejected_safer"]) == (0, 1)
    assert (row["chosen_safe"], row["rejected_safe"]) == (0, 1)


def test_helpsteer_strengths_are_kept_and_beyond_the_scale_mean_no_verdict(load, write_jsonl):
    (row,) = rows_of("helpsteer2-preference", load, write_jsonl)
    assert [(vote["winner"], vote["p"], vote["strength"]) for vote in row["votes"]] == [
        ("chosen", None, 2),
        (None, None, None),
    ]
    assert row["votes"][0]["rationale"] == "@Response 2 is better. It is right."


def test_helpsteer_prompts_of_several_turns_are_split(load, write_jsonl):
    prompt = "Hello<extra_id_1>Assistant\nHi.\n<extra_id_1>User\nWhat is 2 + 3?"
    row = {**EXAMPLES["helpsteer"], "prompt": prompt}
    (row,) = load(write_jsonl("rows.jsonl", [row]), file="rows.jsonl").rows
    assert [(turn["role"], turn["content"]) for turn in row["prompt"]] == [
        ("user", "Hello"),
        ("assistant", "Hi."),
        ("user", "What is 2 + 3?"),
    ]
    assert (row["score"], row["helpfulness"], row["verbosity"]) == (4, 4, 2)


def test_ultrafeedback_scores_by_the_mean_of_aspects_and_never_averages_a_missing_one(load, write_jsonl):
    first, second = rows_of("ultrafeedback", load, write_jsonl)
    assert (first["score"], first["overall_score"]) == (2, 10)
    assert (first["helpfulness"], first["instruction_following"], first["truthfulness"]) == (1, None, 3)
    assert first["ratings"] == [{"annotator": "gpt-4", "score": 10, "comment": "Wrong sum."}]
    assert second["score"] is None
    assert [first["index"], second["index"]] == [0, 1]
    assert first["prompt_id"] == second["prompt_id"]


def test_nectar_ranks_become_scores_where_higher_is_better(load, write_jsonl):
    best, other = rows_of("nectar", load, write_jsonl)
    assert (best["score"], other["score"]) == (-1, -2)
    assert said(best["prompt"]) == ["What is 2 + 3?"]


def test_binarised_ultrafeedback_keeps_its_scores(load, write_jsonl):
    (row,) = rows_of("ultrafeedback-binarized", load, write_jsonl)
    assert (row["chosen_score"], row["rejected_score"]) == (9, 2.5)
    assert said(row["prompt"]) == ["What is 2 + 3?"]


def test_tulu_source_is_the_domain(load, write_jsonl):
    (row,) = rows_of("tulu-preference", load, write_jsonl)
    assert (row["domain"], row["chosen_model"], row["source"]) == ("personas", "gpt-4o", "rows")


def test_disagreements_become_ratings(load, write_jsonl):
    (row,) = rows_of("helpsteer2-disagreements", load, write_jsonl)
    assert [rating["score"] for rating in row["ratings"]] == [3, 4, 4]


def test_a_label_is_a_score_of_one_or_zero(load, write_jsonl):
    for name in ("kto", "trl-unpaired"):
        rows = [EXAMPLES[name], {**EXAMPLES[name], "label": False}]
        loaded = load(write_jsonl("rows.jsonl", rows), file="rows.jsonl")
        assert [row["score"] for row in loaded.rows] == [1, 0]


def test_orca_puts_the_system_text_first(load, write_jsonl):
    (row,) = rows_of("orca-pairs", load, write_jsonl)
    assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]


def test_texts_that_share_a_beginning_part_at_a_word(load, write_jsonl):
    rows = [EXAMPLES["trl-implicit-text"], {"chosen": "The sky is blue.", "rejected": "The sky is black."}]
    loaded = load(write_jsonl("rows.jsonl", rows), file="rows.jsonl")
    assert [said(row["prompt"]) for row in loaded.rows] == [["Two and three is"], ["The sky is"]]
    assert said(loaded.rows[1]["chosen"]) == ["blue."]


def test_the_same_row_has_the_same_ids_in_every_layout(load, write_jsonl):
    ids = {rows_of(name, load, write_jsonl)[0]["id"] for name in ("trl-implicit", "trl-explicit", "hh-rlhf")}
    assert len(ids) == 1
