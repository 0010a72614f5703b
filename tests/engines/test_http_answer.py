from datetime import UTC, datetime

from prefkit.engines import Completion, Failure
from prefkit.engines.http_answer import read_completion, retry_after


def told(text: str, finish: str = "stop") -> dict:
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]}


def test_retry_after_is_seconds_or_a_date():
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after("1.5", now) == 1.5
    assert retry_after("Thu, 01 Jan 2026 12:00:30 GMT", now) == 30.0
    assert retry_after("Thu, 01 Jan 2026 11:00:00 GMT", now) == 0.0
    assert retry_after("99999", now) == 300.0
    assert retry_after("soon", now) is None
    assert retry_after("nan", now) is None
    assert retry_after("inf", now) == 300.0
    assert retry_after(None, now) is None


def test_an_answer_without_text_to_keep_is_a_failure():
    call = {"choices": [{"message": {"content": None, "tool_calls": [{}]}, "finish_reason": "tool_calls"}]}
    assert read_completion(call) == Failure("the answer is a tool call and has no text")
    assert "content_filter" in read_completion(told("x", "content_filter")).error
    assert read_completion({"choices": told("")["choices"]}) == Completion("", 0, "stop", 0)
