import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from prefkit.columns import MESSAGES
from prefkit.rng import child_id
from prefkit.sources.ids import message_texts, pair_ids, prompt_ids, response_ids

TURN = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": st.text()})
CONVERSATIONS = st.lists(st.lists(TURN, max_size=4), max_size=6)


def canonical(messages):
    return json.dumps(messages, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@given(CONVERSATIONS)
def test_messages_are_hashed_as_canonical_json(conversations):
    array = pa.array(conversations, MESSAGES)
    assert message_texts(array) == [canonical(messages) for messages in conversations]
    assert message_texts(array[1:]) == [canonical(messages) for messages in conversations[1:]]


@given(CONVERSATIONS, st.sampled_from([None, "", "gpt", "ü"]), st.integers(0, 20))
def test_ids_are_those_of_the_formulas(conversations, model, occurrence):
    array = pa.array(conversations, MESSAGES)
    rows = len(conversations)
    texts = [canonical(messages) for messages in conversations]
    prompts = prompt_ids(array, [None] * rows)
    assert prompts == [child_id("prompt", text, "") for text in texts]
    responses = response_ids(prompts, array, [model] * rows, [occurrence] * rows)
    assert responses == [
        child_id(prompt, "response", text, model or "", str(occurrence))
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    assert pair_ids(responses, prompts) == [
        child_id("pair", one, other) for one, other in zip(responses, prompts, strict=True)
    ]


def test_ids_never_change():
    prompt = pa.array([[{"role": "user", "content": "What is 2 + 3?"}]], MESSAGES)
    response = pa.array([[{"role": "assistant", "content": "5"}]], MESSAGES)
    (one,) = prompt_ids(prompt, [None])
    assert one == "8e60939902175fe2a6f775163fb574f9"
    assert response_ids([one], response, ["m"], [0]) == ["a82818adbae4c884a37927dd7e669d57"]
    assert prompt_ids(prompt, ["[]"]) != [one]


def test_every_control_character_is_escaped_as_pythons_own_json_does():
    text = "".join(map(chr, range(0x300))) + "\u2028\u2029\ufeff\U0001f600"
    rows = [[{"role": "user", "content": text}]]
    plain = json.dumps(rows[0], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert message_texts(pa.array(rows, MESSAGES)) == [plain]
