"""Tasks: a judge is a wording, a model that writes, and a parser; here the three meet.

An ask is one request for a verdict: texts in the order in which they are shown. All asks of a shard go out together,
and those whose answer cannot be read go out again with another seed and another mark. What an ask looks like depends
on the ids of what is judged and on nothing else, so that neither other rows nor their order change an answer, and a
pair that is stored the other way round asks for the same two answers.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from prefkit import rng
from prefkit.engines import Completion, Engines, Failure, Message, Model, Request
from prefkit.engines.recall import recalled
from prefkit.judging import verdicts
from prefkit.judging.verdicts import Reading
from prefkit.judging.wording import Wording, asked, fence, marked
from prefkit.prompts import template

__all__ = ["PLACES", "Ask", "Attempt", "Outcome", "Side", "Task", "Terms", "consequences", "put_to"]

Task = Literal["pairwise", "pointwise", "listwise", "localise", "hindsight"]
PLACES: dict[Task, tuple[str, ...]] = {
    "pairwise": ("prompt", "response_a", "response_b"),
    "pointwise": ("prompt", "response"),
    "listwise": ("prompt", "responses"),
    "localise": ("prompt", "steps"),
    "hindsight": ("prompt", "response_a", "response_b", "consequence_a", "consequence_b"),
}
"""What a template has to show."""
_TOPS = 20
_TOKEN_LENGTH = 8
"""Tokens of a verdict without reasons: one, and what some tokenizers put around it."""


class Terms(NamedTuple):
    """What is the same for all asks of a step."""

    task: Task
    model: Model
    wording: Wording
    rubric: Wording
    is_token: bool
    """Whether the verdict is asked for alone, with the probabilities of what it might have been."""
    allow_tie: bool
    scale: tuple[int, int]
    temperature: float
    max_tokens: int
    retries: int
    seed: int

    @property
    def label(self) -> str:
        """What judgements call the question."""
        rubric = "" if self.rubric.name == "judge.rubric.v1" else f"+{self.rubric.label}"
        return f"{self.wording.label}{rubric}{'+token' if self.is_token else ''}"


class Side(NamedTuple):
    """A response as it is shown."""

    id: str
    text: str
    consequence: str = ""
    """For `hindsight`: what came of it."""
    steps: tuple[str, ...] = ()
    """For `localise`: its parts."""


class Ask(NamedTuple):
    """One verdict wanted."""

    group: int
    """Whose result it decides: a row, or the prompt of several."""
    prompt: str
    sides: tuple[Side, ...]
    """In the order shown."""
    sample: int = 0
    order: int = 0
    """0, or 1 for the reverse of another ask."""
    reference: str = ""
    canary: str = ""
    """What is known of the answer, if it is planted: `truncated`."""

    @property
    def key(self) -> str:
        """What its seed and its mark depend on."""
        return "|".join([*(side.id for side in self.sides), str(self.sample), self.canary])


class Attempt(NamedTuple):
    """One answer to an ask."""

    answer: Completion
    flaw: str | None


class Outcome(NamedTuple):
    """What became of an ask."""

    ask: Ask
    value: Any = None
    """`first`, `second` or `tie`; a score; an order of the sides, best first; a step from 1, 0 for none. None: unread."""
    p: float | None = None
    """Probability that the first is better, a tie counting half."""
    attempts: tuple[Attempt, ...] = ()
    error: str | None = None
    """Why the engine gave no answer."""


def put_to(terms: Terms, asks: Sequence[Ask], engines: Engines, *, must_read: bool = False) -> list[Outcome]:
    """Return what the judge says to each ask, asking again up to `retries` times for what cannot be read.

    With `must_read`, an ask whose answers are all remembered from an earlier build, and none of which can be read, is
    put once more as often, each time with another seed and mark: the row that it failed is not bound to fail for ever.
    """

    def heard(outcome: Outcome, answer: Completion) -> Outcome:
        return _heard(terms, outcome, answer)

    return _put(terms, asks, engines, partial(_request, terms), heard, must_read=must_read)


def consequences(terms: Terms, asks: Sequence[Ask], engines: Engines, seed: int) -> list[Outcome]:
    """Return what comes of acting on the response of each ask, in words, written by `terms.model`.

    Source: RLHS (2025), the simulated outcome that a hindsight judge is shown; without chat turns.
    """

    def heard(outcome: Outcome, answer: Completion) -> Outcome:
        text = verdicts.without_thoughts(answer.text).strip()
        tried = Attempt(answer, None if text else "empty")
        return outcome._replace(value=text or None, attempts=(*outcome.attempts, tried))

    def request(ask: Ask, attempt: int) -> Request:
        return _what_follows(terms, ask, attempt, seed)

    return _put(terms, asks, engines, request, heard, must_read=True)


def _put(
    terms: Terms,
    asks: Sequence[Ask],
    engines: Engines,
    request: Callable[[Ask, int], Request],
    heard: Callable[[Outcome, Completion], Outcome],
    *,
    must_read: bool,
) -> list[Outcome]:
    """Put asks in rounds of `1 + retries` attempts: one, and with `must_read` as many as are remembered, and one."""
    outcomes = [Outcome(ask) for ask in asks]
    waiting, asked, attempt = list(range(len(asks))), set[int](), 0
    while waiting:
        requests = [request(asks[at], attempt) for at in waiting]
        known = recalled(engines, terms.model, requests) if must_read else [False] * len(waiting)
        asked.update(at for at, is_known in zip(waiting, known, strict=True) if not is_known)
        for at, answer in zip(waiting, engines.generate(terms.model, requests), strict=True):
            if isinstance(answer, Failure):
                outcomes[at] = outcomes[at]._replace(error=answer.error)
            else:
                outcomes[at] = heard(outcomes[at], answer)
        attempt += 1
        waiting = [at for at in waiting if outcomes[at].value is None and outcomes[at].error is None]
        if attempt % (1 + terms.retries) == 0:
            waiting = [at for at in waiting if at not in asked]
    return outcomes


def _heard(terms: Terms, outcome: Outcome, answer: Completion) -> Outcome:
    reading = _reading(terms, outcome.ask, answer)
    attempts = (*outcome.attempts, Attempt(answer, reading.flaw))
    odds = verdicts.odds(answer.tops, _labels(terms)) if terms.is_token and reading.flaw is None else None
    if odds is None:
        return outcome._replace(value=reading.value, attempts=attempts)
    if terms.task == "pointwise":  # the expected score, as G-Eval (2023) takes it
        score = sum(float(label) * share for label, share in zip(_labels(terms), odds, strict=True))
        return outcome._replace(value=score, attempts=attempts)
    return outcome._replace(value=reading.value, p=odds[0] + sum(odds[2:]) / 2, attempts=attempts)


def _reading(terms: Terms, ask: Ask, answer: Completion) -> Reading[Any]:
    meaning: Callable[[str], Any] = verdicts.choice
    if terms.task == "pointwise":
        meaning = verdicts.number(*terms.scale)
    elif terms.task == "listwise":
        meaning = verdicts.ranking(len(ask.sides))
    elif terms.task == "localise":
        meaning = verdicts.first_error(len(ask.sides[0].steps))
    reading = verdicts.read(answer, meaning)
    return Reading(None, "tie-not-allowed") if reading.value == "tie" and not terms.allow_tie else reading


def _request(terms: Terms, ask: Ask, attempt: int) -> Request:
    mark = marked(terms.seed, ask.key, attempt, [ask.prompt, ask.reference, *_texts(ask)])
    text = asked(terms.wording.words, _values(terms, ask, mark))
    seed = rng.draw_seed(terms.seed, f"judge|{terms.task}", ask.key, attempt)
    request = Request((Message("user", text),), terms.max_tokens, terms.temperature, seed=seed)
    if not terms.is_token:
        return request
    return request._replace(max_tokens=_TOKEN_LENGTH, choices=_labels(terms), top_logprobs=_TOPS)


def _what_follows(terms: Terms, ask: Ask, attempt: int, seed: int) -> Request:
    mark = marked(seed, ask.key, attempt, [ask.prompt, ask.reference, *_texts(ask)])
    values = {"prompt": fence(ask.prompt, mark), "response": fence(ask.sides[0].text, mark)}
    text = asked(
        template("judge.consequence.v1"), {**values, "reference": _reference(ask, mark), "answer": ""}
    )
    drawn = rng.draw_seed(seed, "judge|consequence", ask.key, attempt)
    return Request((Message("user", text),), terms.max_tokens, terms.temperature, seed=drawn)


def _texts(ask: Ask) -> list[str]:
    return [text for side in ask.sides for text in (side.text, side.consequence)]


def _values(terms: Terms, ask: Ask, mark: str) -> dict[str, str]:
    how = template(f"judge.answer.{'token' if terms.is_token else 'reasoned'}.v1")
    values = {
        "prompt": fence(ask.prompt, mark),
        "rubric": terms.rubric.words,
        "reference": _reference(ask, mark) if terms.task != "hindsight" else "",
        "answer": how.replace("{{verdicts}}", _verdicts(terms)),
    }
    if terms.task in {"pairwise", "hindsight"}:
        for name, side in zip("ab", ask.sides, strict=True):
            values[f"response_{name}"] = fence(side.text, mark)
            values[f"consequence_{name}"] = fence(side.consequence, mark)
    elif terms.task == "pointwise":
        values["response"] = fence(ask.sides[0].text, mark)
    elif terms.task == "listwise":
        shown = (f"Answer {at}:\n{fence(side.text, mark)}" for at, side in enumerate(ask.sides, start=1))
        values["responses"] = "\n\n".join(shown)
    else:
        shown = (f"Step {at}:\n{fence(text, mark)}" for at, text in enumerate(ask.sides[0].steps, start=1))
        values["steps"] = "\n\n".join(shown)
    return values


def _reference(ask: Ask, mark: str) -> str:
    return f"\nA trusted answer, for you alone:\n{fence(ask.reference, mark)}\n" if ask.reference else ""


def _labels(terms: Terms) -> tuple[str, ...]:
    if terms.task == "pointwise":
        return tuple(str(score) for score in range(terms.scale[0], terms.scale[1] + 1))
    return ("A", "B", "C") if terms.allow_tie else ("A", "B")


def _verdicts(terms: Terms) -> str:
    """Return how verdicts are written."""
    low, high = terms.scale
    left, right = ("", "") if terms.is_token else ("[[", "]]")
    if terms.task == "pointwise":
        return f"{left}n{right}, where n is a whole number from {low} (worst) to {high} (best)"
    if terms.task == "listwise":
        return "[[2 > 3 > 1]], say: the number of every answer exactly once, best first"
    if terms.task == "localise":
        return "[[n]], where n is the number of the first wrong step, or [[0]] if no step is wrong"
    sides = f"{left}A{right} if answer A is better, {left}B{right} if answer B is better"
    return f"{sides}, {left}C{right} if neither is" if terms.allow_tie else sides
