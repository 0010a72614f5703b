import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.columns import MESSAGES
from prefkit.sources.chunks import BadRowError
from prefkit.sources.conversations import order_problems, split_ends, split_transcript, turns_of

MARKS = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}
SAID = (
    st.text(min_size=1)
    .map(str.strip)
    .filter(lambda text: text and "Human:" not in text and "Assistant:" not in text)
)


def turns(*said):
    return [{"role": role, "content": text} for role, text in said]


def written(conversation):
    return "".join(MARKS[turn["role"]] + turn["content"] for turn in conversation)


@given(st.lists(SAID, min_size=1, max_size=8))
def test_a_transcript_comes_back_as_the_turns_that_were_written(texts):
    conversation = turns(*zip(["user", "assistant"] * 4, texts, strict=False))
    assert split_transcript(written(conversation)) == (conversation, 0)


@given(st.lists(SAID, min_size=1, max_size=3), SAID, SAID)
def test_the_shared_part_of_two_transcripts_is_the_prompt(texts, better, worse):
    said = [(role, text) for text in texts for role in ("user", "assistant")][:-1]
    prompt = turns(*said)
    chosen, _ = split_transcript(written([*prompt, *turns(("assistant", better))]))
    rejected, _ = split_transcript(written([*prompt, *turns(("assistant", worse))]))
    assert split_ends(chosen, rejected) == (
        prompt,
        turns(("assistant", better)),
        turns(("assistant", worse)),
    )


def test_turns_of_one_speaker_in_a_row_are_joined_and_counted():
    found, joined = split_transcript("\n\nHuman: a\n\nAssistant: b\n\nAssistant: c")
    assert found == turns(("user", "a"), ("assistant", "b\n\nc"))
    assert joined == 1


@pytest.mark.parametrize("text", ["hello", "Human says hi", "intro\n\nHuman: a", ""])
def test_text_that_does_not_begin_with_a_turn_is_no_transcript(text):
    with pytest.raises(BadRowError, match="transcript without turns"):
        split_transcript(text)


def test_conversations_that_part_early_are_refused():
    one = turns(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    with pytest.raises(BadRowError, match="differ before the last turn"):
        split_ends(one, [*one[:1], *turns(("assistant", "x")), *one[2:]])
    with pytest.raises(BadRowError, match="no prompt before the response"):
        split_ends(one[3:], one[3:])


def test_equal_conversations_still_have_a_prompt_and_two_responses():
    one = turns(("user", "a"), ("assistant", "b"))
    assert split_ends(one, one) == (one[:1], one[1:], one[1:])


def test_roles_and_contents_are_read_in_every_spelling():
    assert turns_of([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "x") == turns(
        ("user", "a"), ("assistant", "b")
    )
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert turns_of({"role": "user", "content": parts}, "x") == turns(("user", "ab"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "message without text in x"),
        ([{"type": "image_url"}], "message without text in x"),
        ([], "message without text in x"),
    ],
)
def test_what_is_not_text_is_refused(content, reason):
    with pytest.raises(BadRowError, match=reason):
        turns_of([{"role": "user", "content": content}], "x")


SOUND_PROMPTS = ["u", "su", "uau", "suau", "uat", "uatat", "uatau"]
WRONG_PROMPTS = ["s", "a", "ua", "us", "uu", "usu", "au", "ss", "sa", "t", "uta", "uaut", "uata"]
SOUND_RESPONSES = ["a", "ata", "atta", "aua"]
WRONG_RESPONSES = ["u", "au", "sa", "aa", "at", "ta"]
NAMES = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}


def in_order(words, side):
    rows = [[{"role": NAMES[mark], "content": "x"} for mark in word] for word in words]
    return (~order_problems(pa.array(rows, MESSAGES), side)).tolist()


def test_a_prompt_ends_with_the_user_and_its_speakers_alternate():
    assert in_order([*SOUND_PROMPTS, *WRONG_PROMPTS], "prompt") == [
        *[True] * len(SOUND_PROMPTS),
        *[False] * len(WRONG_PROMPTS),
    ]


def test_a_response_begins_and_ends_with_the_assistant():
    assert in_order([*SOUND_RESPONSES, *WRONG_RESPONSES], "response") == [
        *[True] * len(SOUND_RESPONSES),
        *[False] * len(WRONG_RESPONSES),
    ]


@given(st.lists(st.lists(st.sampled_from("uast"), max_size=5), max_size=20), st.integers(0, 5))
def test_the_order_of_a_row_does_not_depend_on_its_neighbours(words, skipped):
    rows = [[{"role": NAMES[mark], "content": "x"} for mark in word] or None for word in words]
    whole = order_problems(pa.array(rows, MESSAGES), "prompt")
    one_by_one = [bool(order_problems(pa.array([row], MESSAGES), "prompt")[0]) for row in rows]
    assert whole.tolist() == one_by_one
    assert order_problems(pa.array(rows, MESSAGES)[skipped:], "prompt").tolist() == one_by_one[skipped:]


def test_json_and_arrow_agree_on_what_messages_are():
    rows = [turns(("user", "é\u2028"))]
    assert json.loads(json.dumps(rows)) == pa.array(rows, MESSAGES).to_pylist()
