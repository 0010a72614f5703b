"""Tokenising: what is cut or left out is counted."""

import pyarrow as pa
import pytest
from transformers import PreTrainedTokenizerFast

from prefkit.columns import MESSAGES
from prefkit.engines import Model
from prefkit.train import TrainSettings
from prefkit.train.tokenise import tokenise


def rows(*texts: tuple[str, str, str]) -> pa.Table:
    def turns(role: str, side: int) -> pa.Array:
        return pa.array([[{"role": role, "content": text[side]}] for text in texts], MESSAGES)

    names = pa.array([f"p{at}" for at in range(len(texts))])
    return pa.table(
        {
            "id": names,
            "prompt": turns("user", 0),
            "chosen": turns("assistant", 1),
            "rejected": turns("assistant", 2),
        }
    )


def settings(**kind: object) -> TrainSettings:
    return TrainSettings(model=Model(id="here"), **kind)


def test_a_response_ends_with_its_end_of_turn_token_once(tokenizer: PreTrainedTokenizerFast) -> None:
    told = tokenise(rows(("red", "blue", "green pens")), tokenizer, settings())
    (pair,) = told.pairs
    assert tokenizer.decode(pair.prompt) == "<|user|>red<|assistant|>"
    assert tokenizer.decode(pair.chosen) == "blue<|end|>"
    assert tokenizer.decode(pair.rejected) == "green pens<|end|>"
    assert not told.notes


def test_responses_of_the_same_tokens_are_dropped_and_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    told = tokenise(rows(("red", "blue", "blue"), ("red", "blue", "green")), tokenizer, settings())
    assert [pair.row for pair in told.pairs] == [1]
    assert told.notes == {"dropped/same-tokens": 1}


LONG = ("red blue green seven", "pens cups please", "pens cups thanks")


@pytest.mark.parametrize(
    ("side", "limit", "notes"),
    [
        ("drop", 8, {"dropped/too-long": 1}),
        ("prompt", 8, {"truncated/prompt": 1}),
        ("prompt", 2, {"dropped/no-room-for-prompt": 1}),
        ("response", 10, {"truncated/response": 1}),
        ("response", 8, {"dropped/same-tokens-after-cut": 1}),
        ("response", 4, {"dropped/no-room-for-response": 1}),
    ],
)
def test_a_long_pair_is_cut_where_the_settings_say_and_counted(
    tokenizer: PreTrainedTokenizerFast, side: str, limit: int, notes: dict[str, int]
) -> None:
    whole = tokenise(rows(LONG), tokenizer, settings()).pairs[0]
    lengths = (len(whole.prompt), len(whole.chosen))
    told = tokenise(rows(LONG), tokenizer, settings(max_length=limit, truncate=side))
    assert told.notes == notes, f"prompt and response have {lengths} tokens"
    for pair in told.pairs:
        assert len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) == limit


def test_the_models_own_limit_holds_without_a_setting(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenise(rows(LONG), tokenizer, settings(), limit=5).notes == {"dropped/too-long": 1}
