import json

import pytest
from pydantic import ValidationError

from prefkit.identity import canonical
from prefkit.sources import Source

WRONG = [
    ({}, "a source has exactly one of 'file', 'hub' and 'ref'"),
    ({"file": "a", "hub": "b"}, "a source has exactly one of 'file', 'hub' and 'ref'"),
    ({"file": ""}, "'file' is empty"),
    ({"file": []}, "'file' is empty"),
    ({"file": "a", "split": "train"}, "'split' can only be set with 'hub'"),
    ({"file": "a", "config": "x", "revision": "y"}, "'config', 'revision' can only be set with 'hub'"),
    ({"ref": "a/01-x", "keep": ["b"]}, "a ref is read as it is: 'keep' cannot be set with 'ref'"),
    (
        {"file": "a", "columns": {"prompt": ["x", "y"]}},
        "only 'votes' may have several columns, and 'prompt' has",
    ),
    ({"file": "a", "columns": {"chosen": "x", "prompt": "p"}}, "a pair needs both 'chosen' and 'rejected'"),
    ({"file": "a", "columns": {"chosen": "x", "rejected": "y", "first": "z"}}, "a pair has either"),
    ({"file": "a", "keep": ["source"]}, "'source' has a meaning of its own; give another name"),
    ({"file": "a", "keep": ["x"], "scores": ["x"]}, "'x' is both in 'keep' and in 'scores'"),
    ({"file": "a", "negate": ["margin"]}, "'negate' knows 'ratings', 'score', not 'margin'"),
    (
        {"file": "a", "columns": {"prompt": "p"}, "scores": ["s"]},
        "'scores' and 'negate: [score]' are for rows",
    ),
    ({"file": "a", "max_bad": 1.0}, "less than 1"),
    ({"file": "a", "take": 0}, "greater than 0"),
    ({"file": "a", "columns": {"promt": "p"}}, "Input should be 'prompt'"),
    ({"file": "a", "join": {"file": "b", "on": []}}, "'on' names no column"),
    ({"file": "a", "join": {"file": "b", "on": ["x"], "tied": ["s"]}}, "'tied' names two columns"),
    ({"file": "a", "colour": "x"}, "Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("settings", "what"), WRONG, ids=range(len(WRONG)))
def test_settings_that_contradict_each_other_are_refused(settings, what):
    with pytest.raises(ValidationError) as caught:
        Source.model_validate_json(json.dumps(settings), strict=True)
    assert what in str(caught.value)


def test_a_source_survives_a_round_trip_through_json():
    source = Source(
        file=("a.jsonl", "b.jsonl"),
        columns={"prompt": "q", "response": "a", "votes": ("x", "y")},
        scores={"style": "s"},
        keep={"topic": "t"},
        join={"file": "r.parquet", "on": ["id"], "annotator": "rater", "score": "mqm"},
        negate=("ratings", "style"),
        where={"lang": "de", "good": True},
    )
    assert Source.model_validate_json(json.dumps(canonical(source)), strict=True) == source


def test_a_list_of_columns_keeps_their_names():
    assert Source(file="a", keep=["x", "y"]) == Source(file="a", keep={"x": "x", "y": "y"})


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"file": "data/rows.jsonl.gz"}, "rows"),
        ({"file": "../harmless-base.test.jsonl.gz"}, "harmless-base.test"),
        ({"file": ("a.csv", "b.csv")}, "a"),
        ({"file": "a.csv", "name": "mine"}, "mine"),
        ({"hub": "owner/name"}, "owner/name"),
        ({"hub": "./folder/name/"}, "name"),
        ({"ref": "run/02-filter"}, "run/02-filter"),
    ],
)
def test_a_source_is_called_after_its_end_and_never_after_a_machine_path(settings, label):
    assert Source(**settings).label == label
