import pytest

from prefkit.errors import DataError
from prefkit.sources import Source, read

RESPONSES = [
    {"doc": 1, "by": "x", "q": "What?", "a": "1"},
    {"doc": 1, "by": "y", "q": "What?", "a": "2"},
    {"doc": 2, "by": "x", "q": "Who?", "a": "3"},
]
RATINGS = [
    {"doc": 1, "by": "y", "rater": "r2", "penalty": 4.0, "why": "long"},
    {"doc": 1, "by": "x", "rater": "r1", "penalty": 0.0, "why": None},
    {"doc": 1, "by": "x", "rater": "r2", "penalty": 1.5, "why": "odd"},
    {"doc": 9, "by": "x", "rater": "r1", "penalty": 1.0, "why": None},
]
JOIN = {
    "file": "ratings.jsonl",
    "on": ["doc", "by"],
    "annotator": "rater",
    "score": "penalty",
    "comment": "why",
}
SOURCE = {"file": "rows.jsonl", "columns": {"prompt": "q", "response": "a", "model": "by"}}


@pytest.fixture
def folder(write_jsonl):
    write_jsonl("rows.jsonl", RESPONSES)
    return write_jsonl("ratings.jsonl", RATINGS)


def test_ratings_of_a_second_file_come_to_their_response(load, folder):
    loaded = load(folder, **SOURCE, join=JOIN, negate=["ratings"])
    assert [row["ratings"] for row in loaded.rows] == [
        [
            {"annotator": "r1", "score": 0, "comment": None},
            {"annotator": "r2", "score": -1.5, "comment": "odd"},
        ],
        [{"annotator": "r2", "score": -4, "comment": "long"}],
        None,
    ]
    assert loaded.notes["join: judgements of rows that are not there"] == 1


def test_a_join_leaves_out_what_where_excludes(load, folder):
    loaded = load(folder, **SOURCE, join={**JOIN, "where": {"rater": "r1"}})
    assert [row["ratings"] and len(row["ratings"]) for row in loaded.rows] == [1, None, None]
    assert loaded.notes["join: left out by where"] == 2


def test_a_rating_that_cannot_be_read_is_set_aside_under_its_own_file(load, folder, write_jsonl):
    write_jsonl(
        "ratings.jsonl", [*RATINGS[:3], {**RATINGS[3], "penalty": "bad"}, {**RATINGS[3], "doc": None}, "{"]
    )
    loaded = load(folder, **SOURCE, join=JOIN, max_bad=0.6)
    assert [(row["file"], row["line"], row["reason"]) for row in loaded.bad.to_pylist()] == [
        ("ratings.jsonl", 6, "invalid JSON"),
        ("ratings.jsonl", 4, "join: score is not a number"),
        ("ratings.jsonl", 5, "join: no key"),
    ]


def test_votes_of_a_second_file_come_to_their_pair(load, write_jsonl):
    write_jsonl("rows.jsonl", [{"id": 7, "q": "What?", "x": "1", "y": "2", "gold": 2}])
    votes = [
        {"id": 7, "m": "j1", "s": "cot", "v": 2, "swapped": False, "sx": None, "sy": None},
        {"id": 7, "m": "j1", "s": "rate", "v": 1, "swapped": True, "sx": 3, "sy": 3},
        {"id": 7, "m": "j2", "s": "cot", "v": None, "swapped": True, "sx": 3, "sy": 4},
    ]
    folder = write_jsonl("votes.jsonl", votes)
    join = {
        "file": "votes.jsonl",
        "on": ["id"],
        "annotator": ["m", "s"],
        "verdict": "v",
        "swapped": "swapped",
        "tied": ["sx", "sy"],
    }
    columns = {"prompt": "q", "first": "x", "second": "y", "preference": "gold"}
    (row,) = load(folder, file="rows.jsonl", columns=columns, join=join).rows
    assert row["chosen"][0]["content"] == "2"
    assert [(vote["judge"], vote["winner"], vote["order"]) for vote in row["votes"]] == [
        ("j1/cot", "chosen", "rejected-first"),
        ("j1/rate", "tie", "chosen-first"),
        ("j2/cot", None, "chosen-first"),
    ]


@pytest.mark.parametrize(
    ("join", "what"),
    [
        ({**JOIN, "score": "penalti"}, "'join' names the column 'penalti', which is not there"),
        ({**JOIN, "on": {"doc": "dok"}}, "'join' names the column 'dok', which is not there"),
        ({**JOIN, "on": {"dok": "doc"}}, "'join' names the column 'dok', which is not there"),
        ({**JOIN, "verdict": "penalty"}, "'join.verdict' is not for response rows"),
        ({**JOIN, "file": "none.jsonl"}, "file 'none.jsonl' does not exist"),
    ],
)
def test_a_join_that_does_not_fit_is_an_error(folder, join, what):
    with pytest.raises(DataError) as caught:
        list(read(Source(**SOURCE, join=join), folder))
    assert caught.value.what == what
    assert caught.value.hint


def test_prompts_have_nothing_to_join(folder):
    with pytest.raises(DataError, match="needs rows with responses or pairs"):
        list(read(Source(file="rows.jsonl", columns={"prompt": "q"}, join=JOIN), folder))
