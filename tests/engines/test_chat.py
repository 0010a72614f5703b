import pytest

from prefkit.engines import Conversation, Failure, Message
from prefkit.engines.chat import (
    Encoded,
    Prompt,
    check_template,
    encode,
    encode_all,
    encode_prompts,
    encode_whole,
    end_ids,
    reference_fingerprint,
)
from prefkit.errors import EngineError


def template(turn: str, ask: str = "") -> str:
    """Return a chat template that writes each turn like this, and asks for an answer like that."""
    return f"{{% for m in messages %}}{turn}{{% endfor %}}{{% if add_generation_prompt %}}{ask}{{% endif %}}"


TURN = "<|{{ m.role }}|>{{ m.content }}<|end|>"


def conversation(prompt: str, response: str | None) -> Conversation:
    return Conversation((Message("user", prompt),), (Message("assistant", response),))


def test_the_response_begins_where_the_generation_prompt_ends(tokenizer_for):
    tokenizer = tokenizer_for()
    encoded = encode(tokenizer, conversation("say hi", "hello"))
    assert tokenizer.decode(encoded.prompt_ids) == "<|user|>say hi<|end|>\n<|assistant|>"
    assert tokenizer.decode(encoded.response_ids) == "hello<|end|>"
    assert encode_prompts(tokenizer, [Prompt((Message("user", "say hi"),))]) == [encoded.prompt_ids]


@pytest.mark.parametrize(
    "closing", ["<|end|>", "<|end|>\n", "<|end|>\n\n", ""], ids=["plain", "line", "lines", "none"]
)
def test_a_response_ends_with_its_end_token_exactly_once(tokenizer_for, closing):
    turn = "<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}" + closing + "{% endif %}"
    tokenizer = tokenizer_for(template(turn, "<|assistant|>"))
    end = tokenizer.eos_token_id
    for text in ("hello", "", "  ", "\n", "🙂 שלום", "hi <|end|> there"):
        ids = encode(tokenizer, conversation("say hi", text)).response_ids
        assert ids[-1] == end
        assert ids.count(end) == 1 + text.count("<|end|>")
        assert tokenizer.decode(ids[:-1]) == text


def test_a_null_content_reads_as_nothing(tokenizer_for):
    tokenizer = tokenizer_for()
    assert encode(tokenizer, conversation("say hi", None)).response_ids == [tokenizer.eos_token_id]


def test_a_template_that_closes_a_turn_with_another_token_ends_responses_with_that(tokenizer_for):
    tokenizer = tokenizer_for()
    tokenizer.eos_token = "<|pad|>"
    end, eos = tokenizer.convert_tokens_to_ids(["<|end|>", "<|pad|>"])
    assert end_ids(tokenizer) == (end, eos)
    assert encode(tokenizer, conversation("say hi", "hello")).response_ids[-1] == end


def test_a_token_never_straddles_prompt_and_response(tokenizer_for):
    tokenizer = tokenizer_for(template("{{ m.role }}:\n{{ m.content }}", "assistant:\n"))
    assert len(tokenizer("\n\n")["input_ids"]) == 1  # the case at hand: two line breaks are one token
    encoded = encode(tokenizer, conversation("x", "\nhello"))
    assert tokenizer.decode(encoded.prompt_ids) == "user:\nxassistant:\n"
    assert tokenizer.decode(encoded.response_ids) == "\nhello<|end|>"


def test_a_template_that_rewrites_the_prompt_is_a_failure_that_says_so(tokenizer_for):
    thinking = template(TURN, "<|assistant|><think>")
    failed = encode(tokenizer_for(thinking), conversation("x", "y"))
    assert failed == Failure("the chat template writes the prompt differently once a response follows it")


def test_a_template_that_refuses_a_role_fails_that_row_alone(tokenizer_for):
    refuses = "{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    good = conversation("x", "y")
    bad = good._replace(prompt=(Message("system", "s"), *good.prompt))
    tokenizer = tokenizer_for(template(refuses + TURN, "<|assistant|>"))
    first, second, third = encode_all(tokenizer, [good, bad, good])
    assert isinstance(first, Encoded)
    assert second == Failure("the chat template refuses the conversation: no system turn")
    assert third == first


def test_an_assistant_turn_at_the_end_of_a_prompt_is_gone_on_with(tokenizer_for):
    tokenizer = tokenizer_for()
    prompt = (Message("user", "count"), Message("assistant", "one two"))
    encoded = encode(tokenizer, Conversation(prompt, (Message("assistant", " three"),)))
    assert tokenizer.decode(encoded.prompt_ids) == "<|user|>count<|end|>\n<|assistant|>one two"
    assert tokenizer.decode(encoded.response_ids) == " three<|end|>"
    assert encode_prompts(tokenizer, [Prompt(prompt)]) == [encoded.prompt_ids]


def test_several_turns_of_a_response_belong_to_it(tokenizer_for):
    tokenizer = tokenizer_for()
    turns = (Message("assistant", "a"), Message("user", "b"), Message("assistant", "c"))
    encoded = encode(tokenizer, Conversation((Message("user", "x"),), turns))
    assert tokenizer.decode(encoded.response_ids) == "a<|end|>\n<|user|>b<|end|>\n<|assistant|>c<|end|>"


def test_special_tokens_are_not_doubled_by_a_tokenizer_that_adds_its_own(tokenizer_for):
    from tokenizers.processors import TemplateProcessing

    tokenizer = tokenizer_for("<|pad|>{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}")
    pad = tokenizer.pad_token_id
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|pad|> $A", special_tokens=[("<|pad|>", pad)]
    )
    assert tokenizer("hi")["input_ids"][0] == pad
    (ids,) = encode_whole(tokenizer, [conversation("x", "y")])
    assert ids.count(pad) == 1


def test_a_reward_model_reads_the_template_to_its_last_character(tokenizer_for):
    tokenizer = tokenizer_for()
    (ids,) = encode_whole(tokenizer, [conversation("x", "y")])
    assert tokenizer.decode(ids) == "<|user|>x<|end|>\n<|assistant|>y<|end|>\n"


def test_tools_reach_the_template(tokenizer_for):
    tokenizer = tokenizer_for(
        "{% if tools %}{{ tools[0].name }}{% endif %}" + template("<|user|>{{ m.content }}")
    )
    (ids,) = encode_prompts(tokenizer, [Prompt((Message("user", "x"),), '[{"name": "search"}]')])
    assert tokenizer.decode(ids) == "search<|user|>x"


def test_an_empty_conversation_is_a_failure(tokenizer_for):
    assert encode_prompts(tokenizer_for(), [Prompt(())]) == [Failure("the conversation is empty")]


def test_a_model_without_chat_template_or_end_is_refused(tokenizer_for):
    with pytest.raises(EngineError, match="has no chat template"):
        check_template(tokenizer_for(None), "m")
    tokenizer = tokenizer_for("{% for m in messages %}{{ m.content }}{% endfor %}")
    tokenizer.eos_token = None
    with pytest.raises(EngineError, match="has no end-of-turn token"):
        check_template(tokenizer, "m")


def test_the_reference_fingerprint_knows_weights_template_and_number_format(tokenizer_for):
    tokenizer, other = tokenizer_for(), tokenizer_for("{{ messages }}")
    prints = {
        reference_fingerprint(tokenizer, "w", "float32"),
        reference_fingerprint(tokenizer, "v", "float32"),
        reference_fingerprint(tokenizer, "w", "bfloat16"),
        reference_fingerprint(other, "w", "float32"),
    }
    assert len(prints) == 4
    assert reference_fingerprint(tokenizer_for(), "w", "float32") in prints
