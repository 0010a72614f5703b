"""What `why` prints: a life, step by step; and the history of a row in a line a step, for `show --id`.

Long texts are cut with a count of what is left out; `--json` has all of them. Of a prompt, whose life is that of all its
rows, each row has one line and calls are added up.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from prefkit.engines.spend import dollars
from prefkit.show import cut, in_brief, marked_sides, settings, thousands, visible
from prefkit.why import Biography, Call, Chapter, Passage, Wrote

__all__ = ["draw_life", "history"]

_Turns = Sequence[Mapping[str, Any]]
_COLOURS = {"dropped": "bold red", "failed": "bold red", "unused": "yellow"}
_TEXT = 600
"""Characters of one text that are shown."""
_VALUE = 160
_FACTS = 60
_SHORT = 40
_EVERYWHERE = ("model", "origin", "finish", "index")
"""Columns that say little beside their row; the row itself and `--json` have them."""
_IDS = 4
_DIGITS = 12
"""Of an id: enough to be found by, and to tell a prompt's rows apart."""


def draw_life(life: Biography) -> Iterator[RenderableType]:
    """Yield the drawing of a life."""
    yield _head(life)
    if life.prompt:
        yield Padding(_turns(life.prompt), (0, 0, 0, 2))
    for chapter in life.chapters:
        yield Text()
        yield _title(chapter)
        if life.level == "prompt":
            yield from _many(chapter)
        else:
            yield from _few(chapter, life.prompt)
        yield from _notes(chapter)
    yield Text()
    yield _sum(life.calls)


def history(life: Biography) -> Iterator[Text]:
    """Yield one line a step: what became of the row there, and what was written."""
    for chapter in life.chapters:
        own = [passage for passage in chapter.passages if passage.kin == "itself"]
        text = Text(f"  {visible(chapter.step):<17} ")
        for passage in own:
            text += _fate(passage)
            yield text + (Text("  ") + _names(passage.wrote) if passage.wrote else Text())
        if not own and life.level != "prompt":
            yield text + _others(chapter.passages)


def _others(passages: Sequence[Passage]) -> Text:
    """Return what became of the rows that a row was made of: its responses, or before there were some its prompt."""
    told = [passage for passage in passages if passage.level != "prompt"] or passages
    return Text(", ").join(
        Text().append(f"{each.level} {_short_id(each.id)} ", style="dim") + _fate(each)
        for each in told[:_IDS]
    )


def _head(life: Biography) -> Text:
    text = Text(f"{life.level} {visible(life.id)}", style="bold")
    text.append(f" of {visible(life.run)}: ", style="not bold")
    if life.level == "prompt" and life.fate in ("became", "kept") and life.chapters:
        return text.append(_left(life.chapters[-1]), style="green")
    text.append(_spoken(life.fate), style=_COLOURS.get(life.fate, "green"))
    return text.append(f" in {visible(life.step)}" + (f", {in_brief(life.reason)}" if life.reason else ""))


def _left(chapter: Chapter) -> str:
    """Return what is left of a prompt at the end of its life."""
    ends = Counter((each.level, each.fate) for each in chapter.passages)
    said = [f"{_count(count, level)} {_spoken(fate)}" for (level, fate), count in ends.items()]
    return f"{', '.join(said)} in {visible(chapter.step)}"


def _title(chapter: Chapter) -> Text:
    text = Text(visible(chapter.step), style="bold cyan")
    said = "" if chapter.scope == "source" else settings(chapter.settings)
    scope = "" if chapter.scope == "source" else f" · {chapter.scope}"
    text.append(scope, style="not bold dim")
    return text.append(f" · {in_brief(said, 300)}" if said else "", style="not bold dim")


def _few(chapter: Chapter, prompt: _Turns) -> Iterator[RenderableType]:
    for passage in chapter.passages:
        yield _indented(Text("  ").join([_kin(passage), _fate(passage), *_links(passage)]), 2)
        yield from _written(passage, prompt)
        for name, value in passage.decided.items():
            yield _indented(_named(name).append(in_brief(value, _VALUE)), 6)
    for call in chapter.calls:
        yield from _call(call, prompt)


def _many(chapter: Chapter) -> Iterator[RenderableType]:
    """Yield a line a row; one for all rows of a kind that went on with nothing written."""
    silent = [each for each in chapter.passages if each.fate == "kept" and not each.wrote]
    for passage in [each for each in chapter.passages if each not in silent]:
        said = Text("  ").join([_kin(passage), _fate(passage), *_links(passage)])
        facts = [f"{visible(one.column)} {in_brief(one.after, 30)}" for one in _scalars(passage.wrote)]
        yield _indented(
            said.append(f"  {in_brief(', '.join(facts), _FACTS)}" if facts else "", style="dim"), 2
        )
    for level, count in Counter(each.level for each in silent).items():
        yield _indented(Text(f"{_count(count, level)} kept"), 2)
    if chapter.calls:
        yield _indented(_sum(chapter.calls), 2)


def _count(number: int, noun: str) -> str:
    return f"{thousands(number)} {noun}{'' if number == 1 else 's'}"


def _kin(passage: Passage) -> Text:
    word = passage.level if passage.kin != "itself" else f"this {passage.level}"
    return Text(f"{word:<14} ").append(visible(passage.id[:_DIGITS]), style="dim")


def _fate(passage: Passage) -> Text:
    text = Text(_spoken(passage.fate), style=_COLOURS.get(passage.fate, ""))
    if passage.reason:
        text.append(f": {in_brief(passage.reason, _VALUE)}", style="not bold")
    if passage.turned:
        text.append("  turned: chosen and rejected changed places", style="bold")
    return text


def _spoken(fate: str) -> str:
    return {"became": "went into other rows", "unused": "nothing was made of it"}.get(fate, fate)


def _links(passage: Passage) -> list[Text]:
    links = (("of", passage.parents), ("into", passage.became))
    return [Text(f"{word} {_few_ids(ids)}", style="dim") for word, ids in links if ids]


def _few_ids(ids: Sequence[str]) -> str:
    more = f" and {thousands(len(ids) - _IDS)} more" if len(ids) > _IDS else ""
    return ", ".join(_short_id(one) for one in ids[:_IDS]) + more


def _short_id(id_: str) -> str:
    return visible(id_[:_DIGITS])


def _names(wrote: Sequence[Wrote]) -> Text:
    facts = [f"{each.column} {in_brief(each.after, 30)}" for each in _scalars(wrote)]
    others = [each.column for each in wrote if not isinstance(each.after, int | float | str | bool)]
    return Text(in_brief(", ".join([*others, *facts]), 2 * _FACTS), style="dim")


def _scalars(wrote: Sequence[Wrote]) -> list[Wrote]:
    """Return what is said of a row in a line: single values, scores first."""
    found = [
        each
        for each in wrote
        if isinstance(each.after, int | float | str | bool)
        and not each.column.endswith("_id")
        and each.column.removeprefix("chosen_").removeprefix("rejected_") not in _EVERYWHERE
    ]
    return sorted(found, key=lambda each: "score" not in each.column)


def _written(passage: Passage, prompt: _Turns) -> Iterator[RenderableType]:
    """Yield what a step wrote: conversations in full, marked where they are two sides, and the rest value by value."""
    after = {each.column: each.after for each in passage.wrote}
    sides = {name: after[name] for name in ("chosen", "rejected") if _is_conversation(after.get(name))}
    if len(sides) == 2:
        for name, text in zip(sides, marked_sides(*sides.values()), strict=True):
            yield _indented(_named(name) + text, 6)
    rest = [each for each in passage.wrote if each.column not in sides]
    short = [each for each in rest if each.before is None and _is_short(each.after)]
    for each in rest:
        if each not in short and not (each.column == "prompt" and list(each.after) == list(prompt)):
            yield _indented(_value(each), 6)
    if short:
        yield _indented(Text("   ").join(_fact(each) for each in short), 6)


def _is_short(value: Any) -> bool:
    return isinstance(value, int | float | str | bool) and len(in_brief(value)) <= _SHORT


def _fact(each: Wrote) -> Text:
    return Text().append(f"{visible(each.column)} ", style="dim").append(in_brief(each.after))


def _named(name: str) -> Text:
    return Text().append(f"{visible(name)}  ", style="dim")


def _value(each: Wrote) -> Text:
    text = _named(each.column)
    if _is_conversation(each.after):
        return text + _turns(each.after)
    if each.before is not None:
        text.append(f"{in_brief(each.before, _VALUE)} -> ")
    shown = in_brief(each.after, _VALUE)
    full = len(in_brief(each.after, 10**9))
    return text.append(
        shown + (f" {thousands(full - len(shown) + 1)} characters more" if full > len(shown) else "")
    )


def _is_conversation(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], Mapping)
        and set(value[0]) == {"role", "content"}
    )


def _turns(turns: _Turns) -> Text:
    text = Text()
    for at, turn in enumerate(turns):
        text.append(("\n" if at else "") + visible(str(turn["role"])) + ": ", style="dim")
        text.append(cut(turn["content"] or "", _TEXT))
    return text


def _call(call: Call, prompt: _Turns) -> Iterator[RenderableType]:
    took = [
        f"{thousands(n)} tokens {way}" for n, way in ((call.tokens_in, "in"), (call.tokens_out, "out")) if n
    ]
    money = [] if call.dollars is None else [dollars(call.dollars)]
    memory = ["remembered from before"] if call.remembered else []
    about = ", ".join(_short_id(one) for one in call.about)
    head = Text("  call ", style="bold").append(visible(call.model), style="not bold")
    engine = [visible(call.engine)] if call.engine else []
    said = [call.method, *engine, *took, *money, *memory, *([f"for {about}"] if about else [])]
    yield head.append("  " + " · ".join(said), style="not bold dim")
    for name in ("messages", "prompt", "response"):
        if name in call.asked:
            turns, word = call.asked[name], "asked" if name == "messages" else name
            same = list(turns) == list(prompt)
            yield _indented(_named(word) + (Text("as above", style="dim") if same else _turns(turns)), 6)
    if "text" in call.asked:
        yield _indented(_named("asked").append(cut(call.asked["text"], _TEXT)), 6)
    yield _indented(_answer(call), 6)


def _answer(call: Call) -> Text:
    text = _named("answer")
    if call.answer is None:
        return text.append("none is remembered", style="yellow")
    if "text" in call.answer:
        text.append(cut(call.answer["text"], _TEXT))
    else:
        text.append(in_brief({key: value for key, value in call.answer.items() if value is not None}, _VALUE))
    read = call.verdict
    if read is None:
        return text
    text.append(f"\nread as {in_brief(_read(call))}", style="bold")
    shown = [
        f"{word} {_short_id(id_)}" for word, id_ in (("first", read.first), ("second", read.second)) if id_
    ]
    return text.append(
        f"  {read.task}, shown {', '.join(shown)}" + ("" if read.counts else ", does not count"), style="dim"
    )


def _read(call: Call) -> str:
    assert call.verdict is not None
    read = call.verdict
    if read.flaw is not None:
        return f"nothing: {read.flaw}"
    said = [str(read.verdict)] if read.verdict is not None else []
    said += [f"{read.value:g}"] if read.value is not None else []
    said += [f"p {read.p:.3f}"] if read.p is not None else []
    return ", ".join(said) or "nothing"


def _notes(chapter: Chapter) -> Iterator[RenderableType]:
    if chapter.more:
        yield _indented(Text(f"{thousands(chapter.more)} rows more", style="dim"), 2)
    if chapter.other_calls:
        yield _indented(
            Text(f"{thousands(chapter.other_calls)} calls for other rows of the prompt", style="dim"), 2
        )
    if chapter.note:
        yield _indented(Text(f"note: {in_brief(chapter.note, 400)}", style="yellow"), 2)


def _sum(calls: Sequence[Call]) -> Text:
    if not calls:
        return Text("no model calls", style="dim")
    said = [
        f"{visible(name)} {thousands(count)}" for name, count in Counter(call.model for call in calls).items()
    ]
    both = (
        (sum(call.tokens_in or 0 for call in calls), "in"),
        (sum(call.tokens_out or 0 for call in calls), "out"),
    )
    took = [f"{thousands(count)} tokens {way}" for count, way in both if count]
    known = [call.dollars for call in calls if call.dollars is not None]
    money = [dollars(sum(known, Decimal(0)))] if known else []
    return Text("; ".join([f"{_count(len(calls), 'call')}: {', '.join(said)}", *took, *money]), style="dim")


def _indented(text: Text, by: int) -> Padding:
    return Padding(text, (0, 0, 0, by))
