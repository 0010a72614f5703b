"""Every public sample beside the checkout loads, with the row counts that its README gives."""

import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pytest

SHARED_FILES = {
    "alpaca_eval/judgements.parquet": 43_197,
    "alpaca_eval/raw_alpaca-7b.alpaca_eval_cot_gpt4_turbo_fn.json": 100,
    "alpaca_eval/raw_vicuna-13b.alpaca_eval_gpt4.json": 100,
    "alpaca_eval/raw_vicuna-13b.weighted_alpaca_eval_gpt4_turbo.json": 100,
    "alpaca_eval/responses.parquet": 35_196,
    "gsm8k_solutions/raw_example_model_solutions.jsonl": 60,
    "gsm8k_solutions/solutions.parquet": 4_390,
    "hh_rlhf_harmless_raw/harmless-base.test.jsonl.gz": 1_136,
    "judge_repeats_vicuna/scored.parquet": 320,
    "llmbar/items.parquet": 326,
    "llmbar/votes.parquet": 42_380,
    "loader_formats_raw/gpm_test_data.jsonl": 10,
    "loader_formats_raw/llamafactory_dpo_en_demo.json": 300,
    "loader_formats_raw/llamafactory_kto_en_demo.json": 300,
    "loader_formats_raw/mt_bench_judge_prompts.jsonl": 8,
    "loader_formats_raw/mt_bench_question.jsonl": 80,
    "mr_gsm8k/critiques.parquet": 387,
    "mr_gsm8k/solutions.parquet": 276,
    "pandalm_human/pairs.parquet": 544,
    "pandalm_human/raw_testset-v1.json": 60,
    "wildbench_judges/judgements.parquet": 6_007,
    "wildbench_judges/responses.parquet": 3_006,
    "wmt_mqm_3raters/ratings.parquet": 8_190,
    "wmt_mqm_3raters/responses.parquet": 2_730,
    "wmt_mqm_ted_ende/ratings.parquet": 7_406,
    "wmt_mqm_ted_ende/responses.parquet": 7_406,
}
"""File to rows, as the READMEs give them. Files of judgements are read as the second file of a join."""

PLAIN = {
    "alpaca_eval/raw_alpaca-7b.alpaca_eval_cot_gpt4_turbo_fn.json": "alpaca-eval-annotations",
    "alpaca_eval/raw_vicuna-13b.alpaca_eval_gpt4.json": "alpaca-eval-annotations",
    "alpaca_eval/raw_vicuna-13b.weighted_alpaca_eval_gpt4_turbo.json": "alpaca-eval-annotations",
    "alpaca_eval/responses.parquet": "responses",
    "hh_rlhf_harmless_raw/harmless-base.test.jsonl.gz": "hh-rlhf",
    "loader_formats_raw/gpm_test_data.jsonl": "trl-implicit",
    "loader_formats_raw/llamafactory_dpo_en_demo.json": "sharegpt-ranking",
    "loader_formats_raw/llamafactory_kto_en_demo.json": "kto",
    "loader_formats_raw/mt_bench_question.jsonl": "mt-bench-questions",
    "pandalm_human/pairs.parquet": "pandalm",
    "pandalm_human/raw_testset-v1.json": "pandalm",
}


def total(lists):
    return pc.sum(pc.list_value_length(lists)).as_py()


def test_every_sample_file_is_known_here(shared_data):
    files = {str(f.relative_to(shared_data)) for f in shared_data.glob("*/*") if f.suffix != ".md"}
    assert files == set(SHARED_FILES)


@pytest.mark.parametrize(("file", "layout"), PLAIN.items())
def test_raw_files_are_recognised_and_load_whole_at_the_default_max_bad(shared_data, load, file, layout):
    loaded = load(shared_data, file=file)
    assert loaded.format == layout
    assert loaded.table.num_rows == SHARED_FILES[file]
    assert loaded.bad.num_rows == 0
    assert len(set(loaded.table["id"].to_pylist())) == loaded.table.num_rows


def test_hh_transcripts_lose_nothing_when_they_are_split(shared_data, load):
    loaded = load(shared_data, file="hh_rlhf_harmless_raw/*.jsonl.gz")
    with gzip.open(shared_data / "hh_rlhf_harmless_raw/harmless-base.test.jsonl.gz") as lines:
        raw = {"".join(json.loads(line)["chosen"].split()) for line in lines}
    marks = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}
    again = [
        "".join(marks[t["role"]] + t["content"] for t in [*row["prompt"], *row["chosen"]])
        for row in loaded.rows
    ]
    # Three dialogues and one reply hold a repeated mark of the same speaker, which joining takes out.
    assert sum("".join(text.split()) in raw for text in again) == 1_136 - 4
    assert loaded.notes["turns of one speaker joined"] == 8


def test_hh_empty_replies_are_kept_for_the_filter(shared_data, load):
    loaded = load(shared_data, file="hh_rlhf_harmless_raw/*.jsonl.gz")
    replies = [row[side][-1]["content"] for row in loaded.rows for side in ("chosen", "rejected")]
    assert replies.count("") == 2


def test_alpaca_eval_ties_have_two_spellings(shared_data, load):
    for name, tie in (("vicuna-13b.alpaca_eval_gpt4", 0), ("alpaca-7b.alpaca_eval_cot_gpt4_turbo_fn", 1.5)):
        raw = json.loads((shared_data / f"alpaca_eval/raw_{name}.json").read_text(encoding="utf-8"))
        loaded = load(shared_data, file=f"alpaca_eval/raw_{name}.json")
        ties = [row for row in loaded.rows if row["votes"][0]["winner"] == "tie"]
        assert len(ties) == sum(row["preference"] == tie for row in raw) == 1
        assert ties[0]["votes"][0]["p"] == 0.5


def test_alpaca_eval_graded_preferences_become_probabilities_of_the_chosen_side(shared_data, load):
    file = "alpaca_eval/raw_vicuna-13b.weighted_alpaca_eval_gpt4_turbo.json"
    raw = json.loads((shared_data / file).read_text(encoding="utf-8"))
    loaded = load(shared_data, file=file)
    by_prompt = {row["instruction"]: row for row in raw}
    for row in loaded.rows:
        given = by_prompt[row["prompt"][0]["content"]]
        p = given["preference"] - 1 if row["chosen_model"] == "vicuna-13b" else 2 - given["preference"]
        assert row["votes"][0]["p"] == pytest.approx(min(max(p, 0), 1))
        assert row["votes"][0]["p"] >= 0.5


def test_alpaca_eval_judgements_join_on_the_text_that_was_judged(shared_data, load):
    settings = {
        "file": "alpaca_eval/responses.parquet",
        "columns": {"prompt": "prompt", "response": "response", "model": "model", "domain": "subset"},
    }
    join = {
        "file": "judgements.parquet",
        "on": {"prompt_id": "prompt_id", "model": "generator_2"},
        "annotator": "annotator",
        "score": "preference",
        "comment": "rationale",
    }
    loaded = load(shared_data, **settings, join=join)
    unmatched = loaded.notes["join: judgements of rows that are not there"]
    assert loaded.table.num_rows == SHARED_FILES["alpaca_eval/responses.parquet"]
    assert total(loaded.table["ratings"]) + unmatched == SHARED_FILES["alpaca_eval/judgements.parquet"]
    assert unmatched == 3
    strict = load(shared_data, **settings, take=500, join={**join, "where": {"judged_text_matches": True}})
    assert strict.notes["join: left out by where"] == 861


def test_gsm8k_raw_problems_unfold_to_five_solutions(shared_data, load):
    loaded = load(shared_data, file="gsm8k_solutions/raw_example_model_solutions.jsonl")
    assert loaded.format == "gsm8k-solutions"
    assert loaded.table.num_rows == SHARED_FILES["gsm8k_solutions/raw_example_model_solutions.jsonl"] * 5
    first = loaded.rows[:5]
    assert [row["index"] for row in first] == [0, 1, 2, 3, 4]
    assert [row["score"] for row in first] == [1, 0, 0, 0, 1]
    assert {row["reference_answer"] for row in first} == {"18"}
    assert first[0]["origin"] == "human"


def test_gsm8k_solutions_map_by_columns(shared_data, load):
    columns = {"prompt": "question", "response": "solution", "score": "is_correct", "model": "source"}
    file = "gsm8k_solutions/solutions.parquet"
    loaded = load(shared_data, file=file, columns=columns, keep=["first_bad_calc_line"])
    assert loaded.table.num_rows == SHARED_FILES[file]
    assert loaded.bad.num_rows == 0
    right = Counter(row["model"] for row in loaded.rows if row["score"] == 1)
    assert {name: round(right[name] / 878, 2) for name in ("6b_finetuning", "175b_verification")} == {
        "6b_finetuning": 0.2,
        "175b_verification": 0.55,
    }
    assert loaded.table["first_bad_calc_line"].null_count == 4_364


def test_judge_repeats_keep_three_scores_and_their_feedback(shared_data, load):
    columns = {
        "prompt": "instruction",
        "response": "response",
        "model": "model",
        "reference_answer": "reference",
        "domain": "category",
        "ratings": "scores",
        "comments": "feedbacks",
    }
    file = "judge_repeats_vicuna/scored.parquet"
    loaded = load(shared_data, file=file, columns=columns, keep=["rubric"])
    assert loaded.table.num_rows == SHARED_FILES[file]
    assert total(loaded.table["ratings"]) == 960
    assert all(rating["comment"] for row in loaded.rows for rating in row["ratings"])
    equal = sum(len({rating["score"] for rating in row["ratings"]}) == 1 for row in loaded.rows)
    assert round(equal / 320, 2) == 0.62


LLMBAR = {
    "file": "llmbar/items.parquet",
    "columns": {"prompt": "prompt", "first": "output_1", "second": "output_2", "preference": "label"},
}
LLMBAR_VOTES = {
    "file": "votes.parquet",
    "on": ["item_id"],
    "annotator": ["base_model", "strategy"],
    "verdict": "vote",
    "swapped": "swapped",
    "comment": "rationale",
}


def test_llmbar_votes_turn_with_the_gold_label(shared_data, load):
    loaded = load(shared_data, **LLMBAR, join=LLMBAR_VOTES)
    assert loaded.table.num_rows == SHARED_FILES["llmbar/items.parquet"]
    assert total(loaded.table["votes"]) == SHARED_FILES["llmbar/votes.parquet"]
    votes = [vote for row in loaded.rows for vote in row["votes"]]
    assert sum(vote["winner"] is None for vote in votes) == 88
    sure = [v for v in votes if v["judge"] == "GPT-4/Rating_Metrics" and v["winner"] is not None]
    assert sum(vote["winner"] == "chosen" for vote in sure) / len(sure) > 0.85
    assert Counter(vote["order"] for vote in votes) == {
        "chosen-first": len(votes) // 2,
        "rejected-first": len(votes) // 2,
    }


def test_llmbar_tied_ratings_are_ties_though_upstream_wrote_a_winner(shared_data, load):
    loaded = load(shared_data, **LLMBAR, join={**LLMBAR_VOTES, "tied": ["score_1", "score_2"]})
    ratings = [v for row in loaded.rows for v in row["votes"] if "/Rating" in v["judge"]]
    tied = sum(vote["winner"] == "tie" for vote in ratings)
    assert 0.2 < tied / len(ratings) < 0.35
    others = [v for row in loaded.rows for v in row["votes"] if "/Rating" not in v["judge"]]
    assert not any(vote["winner"] == "tie" for vote in others)


def test_mr_gsm8k_solutions_pair_with_the_truth_and_carry_critiques(shared_data, load):
    columns = {
        "prompt": "question",
        "chosen": "ground_truth_solution",
        "rejected": "steps",
        "reference_answer": "ground_truth_answer",
        "domain": "question_type",
        "rationale": "human_reason",
    }
    join = {"file": "critiques.parquet", "on": ["uuid"], "annotator": "judge", "comment": "critique"}
    file = "mr_gsm8k/solutions.parquet"
    loaded = load(shared_data, file=file, columns=columns, keep=["first_error_step"], join=join)
    assert loaded.table.num_rows == SHARED_FILES[file]
    assert total(loaded.table["votes"]) == SHARED_FILES["mr_gsm8k/critiques.parquet"]
    assert all(row["rationales"][0]["text"] for row in loaded.rows)
    assert "\n" in loaded.rows[0]["rejected"][0]["content"]


def test_pandalm_booleans_become_the_text_they_were(shared_data, load):
    loaded = load(shared_data, file="pandalm_human/raw_testset-v1.json")
    texts = [row[side][0]["content"] for row in loaded.rows for side in ("chosen", "rejected")]
    assert texts.count("True") == 6
    assert loaded.notes["cast to text: first"] + loaded.notes["cast to text: second"] == 6


def test_pandalm_votes_agree_as_often_as_published(shared_data, load):
    loaded = load(shared_data, file="pandalm_human/pairs.parquet")
    assert all(
        [v["judge"] for v in row["votes"]] == ["annotator1", "annotator2", "annotator3"]
        for row in loaded.rows
    )
    winners = [{vote["winner"] for vote in row["votes"]} for row in loaded.rows]
    assert round(sum(len(of) == 1 for of in winners) / len(winners), 3) == 0.849
    ties = sum(vote["winner"] == "tie" for row in loaded.rows for vote in row["votes"])
    assert round(ties / (3 * 544), 2) == 0.13


def test_wildbench_reads_two_judges_and_keeps_empty_responses(shared_data, load):
    join = {
        "file": "judgements.parquet",
        "on": ["session_id", "model"],
        "annotator": "judge",
        "score": "score",
        "comment": "weaknesses",
    }
    columns = {"prompt": "session_id", "response": "response", "model": "model"}
    file = "wildbench_judges/responses.parquet"
    loaded = load(shared_data, file=file, columns=columns, join=join)
    assert loaded.table.num_rows == SHARED_FILES[file]
    assert total(loaded.table["ratings"]) == SHARED_FILES["wildbench_judges/judgements.parquet"]
    assert sum(not row["response"][0]["content"].strip() for row in loaded.rows) == 2


@pytest.mark.parametrize(("folder", "raters"), [("wmt_mqm_3raters", 3), ("wmt_mqm_ted_ende", 1)])
def test_wmt_penalties_become_ratings_where_higher_is_better(shared_data, load, folder, raters):
    join = {
        "file": "ratings.parquet",
        "on": ["prompt_id", "system"],
        "annotator": "rater",
        "score": "mqm",
        "comment": "errors",
    }
    loaded = load(
        shared_data,
        file=f"{folder}/responses.parquet",
        columns={"response": "response", "model": "system", "domain": "lang_pair"},
        prompt_template="Translate: {source}",
        keep=["doc", "seg"],
        join=join,
        negate=["ratings"],
    )
    assert loaded.table.num_rows == SHARED_FILES[f"{folder}/responses.parquet"]
    assert total(loaded.table["ratings"]) == SHARED_FILES[f"{folder}/ratings.parquet"]
    scores = [rating["score"] for row in loaded.rows for rating in row["ratings"]]
    assert max(scores) == 0
    assert min(scores) < -20
    assert not any(str(score) == "-0.0" for score in scores)
    assert {len(row["ratings"]) for row in loaded.rows} == {raters}


def test_wmt_where_reads_one_language_pair(shared_data, load):
    loaded = load(
        shared_data,
        file="wmt_mqm_3raters/responses.parquet",
        columns={"response": "response", "model": "system"},
        prompt_template="Translate into German: {source}",
        where={"lang_pair": "ende"},
    )
    assert loaded.table.num_rows == 1_040
    assert loaded.notes["left out by where"] == 1_690


def test_judge_prompt_templates_load_as_prompts(shared_data, load):
    file = "loader_formats_raw/mt_bench_judge_prompts.jsonl"
    columns = {"prompt": "prompt_template", "system": "system_prompt", "domain": "category"}
    loaded = load(shared_data, file=file, columns=columns, keep={"template": "name"})
    assert loaded.table.num_rows == SHARED_FILES[file]
    assert [turn["role"] for turn in loaded.rows[0]["prompt"]] == ["system", "user"]


def test_mt_bench_keeps_the_second_question_for_later(shared_data, load):
    loaded = load(shared_data, file="loader_formats_raw/mt_bench_question.jsonl")
    assert all(len(row["later_turns"]) == 1 for row in loaded.rows)
    # 39 questions have a reference, of which one is empty for the first turn.
    assert sum(row["reference_answer"] is not None for row in loaded.rows) == 38


def test_reading_leaves_the_samples_untouched(shared_data):
    path = Path(shared_data / "hh_rlhf_harmless_raw/harmless-base.test.jsonl.gz")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == "3fb9d8dd21f59a72be5d1a851e4c7096d302d6177c376118fe3575f8d424aae3"
