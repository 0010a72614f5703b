"""Canaries among scored responses: right and wrong scorers are told apart, and no row changes."""

import math
from collections import Counter
from itertools import count

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefkit.engines import Engines, Failure, LogProb, Model
from prefkit.engines.fake import FakeEngine
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.spend import Spend
from prefkit.engines.weights import identity
from prefkit.identity import fingerprint
from prefkit.scorers.canaries import same
from prefkit.stages.score import Score
from prefkit.testing import check_stage, run_stage

MODEL, OTHER = Model(id="m"), Model(id="o")
FAKE = Engines({"m": FakeEngine(), "o": FakeEngine()})
TEXT = "There are {} steps to take here, and the answer that we are looking for is {}."
WATCHED = {"model": MODEL, "canaries": 1.0}


class Rates:
    """Rewards, and log-probs of a token a word, of what a function makes of a response's text."""

    def __init__(self, rate):
        self.rate, self.asked = rate, []

    def rewards(self, model, conversations):
        self.asked += conversations
        for position, conversation in enumerate(conversations):
            told = self.rate(conversation.response[-1].content)
            yield position, told if isinstance(told, tuple | Failure) else (told,)

    def log_probs(self, model, conversations):
        for position, conversation in enumerate(conversations):
            text = conversation.response[-1].content
            yield position, LogProb(self.rate(text), len(text.split()) + 1)

    def fingerprint(self, model):
        return "f"


def worth(text):
    """Return 1 for a text as it was written, and less for what something was done to."""
    head, _, tail = text.partition("looking for is ")
    number = tail.removesuffix(".")
    return 1.0 if number.isdecimal() and f"are {number} steps" in head else 0.0


@pytest.fixture
def responses(make_responses):
    texts = [TEXT.format(n, n) for n in range(60)]
    return make_responses(
        {f"p{at}": [None] * 3 for at in range(20)}, {f"p{at}": texts[3 * at : 3 * at + 3] for at in range(20)}
    ).drop_columns(["score"])


@pytest.fixture
def pairs(make_pairs):
    return make_pairs(
        chosen=[TEXT.format(n, n) for n in range(30)],
        rejected=[f"So: {TEXT.format(n, n)}" for n in range(30)],
    )


def canaries_of(notes, column="score"):
    head = f"score/canary/{column}/"
    return Counter({name.removeprefix(head): n for name, n in notes.items() if name.startswith(head)})


def watched(table, rate, **settings):
    engine = Rates(rate)
    out = run_stage(Score(**{**WATCHED, **settings}), table, engines=Engines({"m": engine}))
    return canaries_of(out.notes, settings.get("into", "score")), out, engine


def test_a_scorer_that_is_right_is_said_to_be_right_and_no_row_knows_of_it(responses):
    counts, out, engine = watched(responses, worth)
    assert set(counts) == {"identical/tie", "truncated/original", "padded/original", "wrong-fact/original"}
    assert sum(counts.values()) == 60
    assert len(engine.asked) == 120
    plain = run_stage(Score(model=MODEL), responses, engines=Engines({"m": Rates(worth)}))
    assert out.table.equals(plain.table)
    assert plain.notes == {}


def test_a_scorer_that_pays_for_length_is_found_out(responses):
    counts, _, _ = watched(responses, lambda text: float(len(text)))
    assert counts["padded/copy"] > 5
    assert counts["padded/original"] == counts["padded/tie"] == 0
    assert counts["truncated/original"] > 5


def test_a_scorer_that_does_not_repeat_itself_is_found_out_behind_a_memory_too(responses, tmp_path):
    calls = count()
    engine, spend = Rates(lambda text: worth(text) + next(calls)), Spend()
    remembering = Remembering(engine, Memo(tmp_path / "memo"), spend, identity)
    engines = Engines({"m": remembering}, spend)
    first = run_stage(Score(**WATCHED), responses, engines=engines)
    counts = canaries_of(first.notes)
    assert counts["identical/tie"] == 0
    assert counts["identical/copy"] > 5
    again = run_stage(Score(**WATCHED), responses, engines=engines)
    assert again.notes == first.notes  # and canaries are remembered as well: nothing is paid for twice
    assert next(calls) == 120


def test_equal_is_meant_up_to_rounding():
    one = np.array([0.0, 1.0, 1e6, 1.0, math.nan])
    assert same(one, np.array([9e-5, 1.00009, 1e6 + 90, 1.01, math.nan])).tolist() == [True] * 3 + [False] * 2


def test_of_a_perplexity_the_lower_one_is_the_better(responses):
    def surprised(text):
        return -0.1 * len(text.split()) if worth(text) else -5.0 * len(text.split())

    for unit in ("mean", "perplexity"):
        settings = {"model": None, "log_prob": {"model": MODEL, "unit": unit}}
        counts, _, _ = watched(responses, surprised, **settings)
        assert set(counts) == {
            "identical/tie",
            "truncated/original",
            "padded/original",
            "wrong-fact/original",
        }


def test_a_summed_log_prob_is_seen_to_like_short_texts(responses):
    counts, _, _ = watched(
        responses, lambda text: -1.0 * len(text.split()), model=None, log_prob={"model": MODEL}
    )
    assert counts["truncated/copy"] > 5
    assert counts["truncated/original"] == 0


def test_each_head_has_canaries_of_its_own(responses):
    engine = Rates(lambda text: (worth(text), float(len(text))))
    stage = Score(model=MODEL, heads=("help", "size"), canaries=1.0)
    notes = run_stage(stage, responses, engines=Engines({"m": engine})).notes
    assert canaries_of(notes, "help")["padded/copy"] == 0
    assert canaries_of(notes, "size")["padded/copy"] == canaries_of(notes, "help")["padded/original"] > 5


def test_both_sides_of_pairs_are_watched(pairs):
    counts, out, engine = watched(pairs, worth, at="pair")
    assert sum(counts.values()) == 60
    assert not {name for name in counts if name.endswith("/copy")}
    assert len(engine.asked) == 120
    assert out.table["rejected_score"].to_pylist() == [1.0] * 30


def test_a_preference_model_compares_the_copy_with_the_response(responses):
    def turned(text):
        angle = worth(text)
        return (math.sin(angle), math.cos(angle))

    counts, _, _ = watched(responses, turned, model=None, preference={"model": MODEL})
    assert set(counts) == {"truncated/original", "padded/original", "wrong-fact/original"}
    backwards = watched(responses, lambda text: turned(text)[::-1], model=None, preference={"model": MODEL})[
        0
    ]
    assert set(backwards) == {"truncated/copy", "padded/copy", "wrong-fact/copy"}


def test_a_watched_preference_model_keeps_the_laws(responses, pairs):
    engines = Engines({"m": Rates(lambda text: (float(len(text)), math.cos(len(text))))})
    preference = {"preference": {"model": MODEL}, "canaries": 0.5}
    check_stage(Score(**preference), responses.slice(0, 9), engines=engines)
    check_stage(Score(**preference, at="pair"), pairs.slice(0, 3), engines=engines)


def test_rules_are_watched_without_a_model(responses):
    out = run_stage(Score(rule="length", into="size", canaries=1.0), responses)
    counts = canaries_of(out.notes, "size")
    assert counts["padded/original"] == 0 < counts["padded/copy"]


SCORERS = [
    {"model": MODEL},
    {"ensemble": [MODEL, OTHER]},
    {"dropout": {"model": MODEL, "passes": 2, "head": 0.1}},
    {"log_prob": {"model": MODEL}},
    {"implicit": {"policy": MODEL, "reference": OTHER}},
    {"similarity": {"model": MODEL, "to": "prompt"}},
    {"rule": "length"},
]


@pytest.mark.parametrize("settings", SCORERS)
def test_every_scorer_that_is_watched_keeps_the_laws(settings, responses, pairs):
    for table, at in ((responses.slice(0, 6), "response"), (pairs.slice(0, 3), "pair")):
        stage = Score(**settings, at=at, canaries=0.5)
        assert stage.scope() == "map"
        check_stage(stage, table, engines=FAKE)
        assert run_stage(stage, table, engines=FAKE, seed=1).notes


def test_what_is_drawn_depends_on_the_seed_and_the_id_alone(responses):
    def planted(table, seed, share=0.3):
        engine = Rates(worth)
        stage = Score(model=MODEL, canaries=share)
        run_stage(stage, table, engines=Engines({"m": engine}), seed=seed)
        return {one.response[-1].content for one in engine.asked} - {TEXT.format(n, n) for n in range(60)}

    whole = planted(responses, 3)
    assert whole == planted(responses.slice(0, 30), 3) | planted(responses.slice(30), 3)
    assert whole == planted(responses.take(pa.array(range(59, -1, -1))), 3)
    assert whole != planted(responses, 4)
    assert planted(responses, 3, 0.1) < whole


def test_a_copy_that_fails_or_has_no_number_is_counted_and_fails_nothing(responses):
    def broken(text):
        return 1.0 if worth(text) else Failure("no") if len(text) < 50 else math.nan

    counts, out, _ = watched(responses, broken)
    assert out.table.num_rows == 60
    assert counts["truncated/failed"] > 5
    assert counts["padded/unread"] > 5
    assert not {name for name in counts if name.endswith(("/copy", "/original"))}


def test_a_response_without_a_text_or_a_score_is_not_copied(make_responses):
    table = make_responses({"p": [None] * 4}, {"p": [None, "", TEXT.format(1, 1), TEXT.format(2, 3)]})
    rate = {"": math.nan, TEXT.format(1, 1): Failure("down")}
    counts, out, _ = watched(table, lambda text: rate.get(text, 1.0))
    assert out.table.num_rows == 3
    assert sum(counts.values()) == 1


def test_canaries_are_no_part_of_the_identity_of_those_who_have_none():
    plain = Score(model=MODEL)
    assert "canaries" not in plain.model_dump(mode="json")
    assert not plain.draws()
    assert "id" not in plain.reads()
    assert Score(model=MODEL, canaries=0.0) == plain
    with_some = Score(**WATCHED)
    assert Score.model_validate_json(with_some.model_dump_json()) == with_some
    assert with_some.draws()
    assert fingerprint(with_some) != fingerprint(plain)


def test_what_they_cost_is_part_of_the_estimate():
    assert Score(model=MODEL, canaries=0.25).cost().calls == 1.25
    assert Score(model=MODEL, canaries=0.25, at="pair").cost().calls == 2.5
    assert Score(preference={"model": MODEL}, canaries=0.25).cost().calls == 1.5


@pytest.mark.parametrize(
    "settings",
    [
        {"ratings": "mean"},
        {"similarity": {"model": MODEL, "to": "other"}, "at": "pair"},
        {"model": MODEL, "canaries": 1.5},
    ],
)
def test_where_no_response_is_scored_canaries_are_refused(settings):
    with pytest.raises(ValidationError):
        Score(**{"canaries": 0.1, **settings})
