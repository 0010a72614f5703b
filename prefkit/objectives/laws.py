"""Laws: what the trainer takes for granted of an objective, checked on random batches in one line.

    check_objective(Objective.model_validate("simpo"))
    check_objective(MyLink(nu=2.0), table)

The trainer cuts a step into micro-batches, fixes each row's share before the first backward pass, takes beliefs and
weights as given, and hands out no column that was not asked for. Pieces that keep to this can be combined at will.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.errors import TrainError
from prefkit.objectives.labels import Hard, Smooth
from prefkit.objectives.masks import Everything
from prefkit.objectives.objective import Costs, Objective
from prefkit.objectives.piece import SIDES, Gap, Lists, Pairs, Piece, Response, Rows, Side, TokenTerm
from prefkit.yaml_strict import parse, plain
from prefkit.yaml_text import yaml_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["check_objective"]

Parts = Mapping[str, "Tensor"]
_ROWS = range(64)
_BLOCKS = [range(at, at + 8) for at in range(0, 64, 8)]
_UNSEEN = {"ref_fingerprint", "pair_group", "annotator"}
"""Columns that the trainer and `refuse` look at, and no cost does."""


def check_objective(objective: Objective | Piece, table: pa.Table | None = None) -> None:
    """Check every law of an objective, or of a piece in an objective that is otherwise DPO.

    `table` holds pairs that it has to accept. Raises AssertionError that names the law.
    """
    import torch

    if isinstance(objective, Piece):
        objective = Objective.model_validate({objective.part: objective})
    _check_config(objective)
    _check_tables(objective, table)
    world = _draw(objective, torch.float64, spread=3.0)
    _check_reads(objective, world)
    _check_slopes(objective, world)
    _check_batches(objective, world)
    _check_order(objective, world)
    _check_numbers(objective)
    _check_logit(objective, world)
    _check_terms(objective)
    _check_mask(objective)


class _World(NamedTuple):
    """Random responses, and pairs of them in eight blocks, each a list of four responses and two lists of two."""

    parts: Parts
    """What carries a gradient: trained heads, and the rest [responses, ...]."""
    tokens: "Tensor"
    columns: Mapping[str, "Tensor"]
    """[pairs, ...] each."""
    pairs: Sequence[tuple[int, int, int]]
    """Prompt, chosen and rejected of each pair."""


def _draw(objective: Objective, kind: "torch.dtype", spread: float, longest: int = 40) -> _World:
    """Return a random world with log-ratios of up to `spread` nats and responses of up to `longest` tokens."""
    import torch

    source = torch.Generator().manual_seed(0)

    def uniform(low: float, high: float, *shape: int) -> "Tensor":
        return low + (high - low) * torch.rand(64, *shape, generator=source, dtype=kind)

    lists = [range(at + start, at + end) for at in range(0, 64, 8) for start, end in ((0, 4), (4, 6), (6, 8))]
    pairs = [(at, *sides) for at, responses in enumerate(lists) for sides in combinations(responses, 2)]
    tokens = torch.randint(1, longest, (64,), generator=source).to(kind)
    logp = -2 * spread - tokens * uniform(0.2, 1.5)
    parts = {"logp": logp, "plain": 1.2 * logp, "hidden": uniform(-1, 1, 4), "squares": uniform(0, 1)}
    parts |= {f"term {term.name}": uniform(0, 5) for term in objective.terms()}
    for extra in objective.extras:
        parts |= {f"head {name}": uniform(-1, 1, 4)[:rows] for name, rows in extra.heads().items()}
    told = {
        "logp": logp - uniform(-spread, spread),
        "score": 0.9 - torch.arange(64) % 4 / 5 + uniform(0, 0.1),
    }
    columns = {"reliability": uniform(0.6, 0.9)} if objective.labels.annotators else {}
    for name, type_ in objective.reads().items():
        side, _, what = name.removeprefix("ref_").partition("_")
        if side in SIDES and what in told:
            columns[name] = told[what][[pair[1 + SIDES.index(side)] for pair in pairs]].to(kind)
        elif name == "ref_history":
            columns[name] = logp[:, None, None] + uniform(-1, 1, 8, 2)
        elif pa.types.is_floating(type_):
            columns[name] = uniform(0.05, 0.45)
        elif not pa.types.is_nested(type_):
            columns[name] = (uniform(0, 1) > 0.5).to(kind)
    return _World(parts, tokens, columns, pairs)


def _cut(objective: Objective, world: _World, rows: Sequence[int]) -> Pairs:
    """Return some of the pairs as a batch."""
    import torch

    parts, masked = world.parts, not isinstance(objective.mask, Everything)
    columns = {name: values[list(rows)] for name, values in world.columns.items()}

    def side(name: Side) -> Response:
        of = [world.pairs[row][1 + SIDES.index(name)] for row in rows]
        terms = {
            term.name: parts[f"term {term.name}"][of] for term in objective.terms() if name in term.sides
        }
        return Response(
            logp=parts["logp"][of],
            tokens=world.tokens[of],
            ref_logp=columns.get(f"ref_{name}_logp"),
            plain_logp=parts["plain"][of] if masked else None,
            plain_tokens=world.tokens[of] + 2 if masked else None,
            terms=terms,
            hidden=parts["hidden"][of] if any(extra.hidden for extra in objective.extras) else None,
        )

    responses = _numbered([one for row in rows for one in world.pairs[row][1:]])
    numbers = _numbered([world.pairs[row][0] for row in rows]), responses[::2], responses[1::2]
    lists = Lists(*(torch.tensor(one) for one in numbers)) if objective.listwise() else None
    heads = {name.removeprefix("head "): part for name, part in parts.items() if name.startswith("head ")}
    return Pairs(side("chosen"), side("rejected"), columns, lists, heads, step_tokens=20.0)


def _numbered(values: Sequence[int]) -> list[int]:
    known: dict[int, int] = {}
    return [known.setdefault(value, len(known)) for value in values]


class _Step(NamedTuple):
    costs: Costs
    shares: "Tensor"
    value: "Tensor"
    """The step's one number, as the trainer adds it up."""


def _step(objective: Objective, world: _World, blocks: Sequence[Sequence[int]] = (_ROWS,)) -> _Step:
    """Return what a step on these rows comes to, computed block by block."""
    import torch

    rows = [row for block in blocks for row in block]
    units = len({world.pairs[row][0] for row in rows}) if objective.listwise() else len(rows)
    each = [objective(_cut(objective, world, block)) for block in blocks]
    costs = Costs(*(torch.cat(fields) for fields in zip(*each, strict=True)))
    losses = costs.loss.detach() if objective.reducer.two_pass else torch.zeros_like(costs.loss)
    columns = {name: values[rows] for name, values in world.columns.items()}
    shares = objective.reducer(Rows(losses, columns, units))
    squares = world.parts["squares"][rows]
    beside = costs.extra + objective.penalty(squares, float(squares.detach().mean()))
    return _Step(costs, shares, (shares * costs.weight * costs.loss).sum() + beside.sum() / units)


def _ready(world: _World) -> _World:
    return world._replace(parts={name: part.clone().requires_grad_() for name, part in world.parts.items()})


def _slopes(value: "Tensor", parts: Parts) -> "Sequence[Tensor]":
    import torch

    slopes: Sequence[Tensor] = torch.autograd.grad(value, list(parts.values()), materialize_grads=True)
    return slopes


def _check_config(objective: Objective) -> None:
    for piece in (*objective.pieces(), *([objective.heads] if objective.heads else [])):
        told = f"the settings of {piece.part} '{piece.name}' must survive"
        written = json.loads(piece.model_dump_json())
        assert list(written) == [piece.name], f"{told}: they are written as {sorted(written)}"
        assert type(piece).model_validate(written[piece.name]) == piece, f"{told} JSON"
        assert plain(parse(yaml_text(written).encode(), piece.name).root) == written, f"{told} YAML"


def _check_tables(objective: Objective, table: pa.Table | None) -> None:
    schema = pa.schema(list(objective.reads().items()))
    nulls = pa.Table.from_arrays([pa.nulls(2, kind) for kind in schema.types], schema=schema)
    cases = {f"pairs without '{name}'": nulls.drop_columns([name]) for name in schema.names}
    for name, rows in {**cases, "nulls": nulls, "no rows": schema.empty_table()}.items():
        refusal: Exception | None = None
        try:
            objective.check(rows)
        except Exception as error:  # noqa: BLE001 - which one it is, is the law
            refusal = error
        told = f"{name} must be refused by a TrainError with a hint, not by {refusal!r}"
        assert isinstance(refusal, TrainError | None), told
        assert refusal or not schema.names or name == "no rows", told
    if table is not None:
        objective.check(table)


def _check_reads(objective: Objective, world: _World) -> None:
    try:
        costs = objective(_cut(objective, world, _ROWS))
        for name, field in costs._asdict().items():
            assert field.shape == (64,), f"{name} must be one number a pair, not {tuple(field.shape)}"
        _step(objective, world)
    except KeyError as error:
        raise AssertionError(f"{error} is used, and neither reads() nor terms() declares it") from error
    unseen = {*_UNSEEN, *(objective.heads.reads() if objective.heads else ())}
    for name in set(world.columns) - unseen:
        rest = {other: values for other, values in world.columns.items() if other != name}
        try:
            _step(objective, world._replace(columns=rest))
        except (KeyError, TypeError, ValueError):
            continue
        raise AssertionError(f"reads() declares '{name}', and nothing needs it")


def _check_slopes(objective: Objective, world: _World) -> None:
    """Check loss and extras as they are once beliefs are given: belief times right plus doubt times wrong."""
    import torch

    ready = _ready(world)
    costs = objective(_cut(objective, ready, _ROWS))
    plainly, mixed = (
        objective.model_copy(update={"labels": labels}) for labels in (Hard(), Smooth(rate=0.25))
    )

    def given(parts: Parts) -> "Tensor":
        pairs = _cut(objective, world._replace(parts=parts), _ROWS)
        right = loss = plainly(pairs).loss
        if not isinstance(objective.labels, Hard):
            loss = right + 4 * (1 - costs.belief) * (mixed(pairs).loss - right)
        return torch.stack([loss, objective(pairs).extra])

    found = torch.stack([costs.loss, costs.extra])
    _same(found, given(world.parts), "the labels' shares of right and wrong must add up to 1")
    _check_slope(found, given, ready.parts, "the loss and the extras, beliefs being given,")


def _check_slope(found: "Tensor", given: Callable[[Parts], "Tensor"], parts: Parts, what: str) -> None:
    """Check the gradient of `found` along a random direction by differences of `given`, which is the same."""
    import torch

    source = torch.Generator().manual_seed(1)
    ways = {name: torch.randn(part.shape, generator=source, dtype=part.dtype) for name, part in parts.items()}
    share = torch.rand(found.shape, generator=source, dtype=found.dtype)
    slopes = zip(_slopes((share * found).sum(), parts), ways.values(), strict=True)
    slope = sum(float((one * way).sum()) for one, way in slopes)
    ends = [{name: part.detach() + by * ways[name] for name, part in parts.items()} for by in (1e-6, -1e-6)]
    up, down = (float((share * given(end)).sum()) for end in ends)
    expected = (up - down) / 2e-6
    told = f"the gradient of {what} must be that of finite differences: {slope:.6g}, and not {expected:.6g}"
    assert abs(slope - expected) <= 1e-4 * max(1, abs(expected)), told


def _check_batches(objective: Objective, world: _World) -> None:
    told = "one batch of 64 and eight micro-batches of 8 must have the same"
    ready = _ready(world)
    one, many = _step(objective, ready), _step(objective, ready, _BLOCKS)
    _same(one.value, many.value, f"{told} loss")
    for whole, cut in zip(_slopes(one.value, ready.parts), _slopes(many.value, ready.parts), strict=True):
        _same(whole, cut, f"{told} gradient")


def _check_order(objective: Objective, world: _World) -> None:
    """Check that rows, or the lists they make up, cost the same wherever they stand."""
    import torch

    def sums(rows: Sequence[int]) -> "Tensor":
        step = _step(objective, world, [rows])
        keys = torch.tensor([world.pairs[row][0] if objective.listwise() else row for row in rows])
        each = torch.stack(
            [step.shares * step.costs.weight * step.costs.loss, step.costs.loss, step.costs.extra]
        )
        return torch.zeros_like(each).index_add(1, keys, each)

    _same(sums(_ROWS), sums([row * 37 % 64 for row in _ROWS]), "the order of rows must not matter")


def _check_numbers(objective: Objective) -> None:
    import torch

    far = _ready(_draw(objective, torch.float32, spread=1e4, longest=8192))
    step = _step(objective, far)
    for values in (*step.costs, step.shares, *_slopes(step.value, far.parts)):
        assert bool(values.isfinite().all()), "log-ratios of 10,000 nats must stay finite in float32"
    near = _draw(objective, torch.float32, spread=30.0)
    parts, columns = ({name: one.double() for name, one in of.items()} for of in (near.parts, near.columns))
    rough, exact = (
        _step(objective, near),
        _step(objective, _World(parts, near.tokens.double(), columns, near.pairs)),
    )
    for one, other in zip((*rough.costs, rough.shares), (*exact.costs, exact.shares), strict=True):
        _same(one.double(), other, "float32 and float64 must agree", relative=1e-4)


def _check_logit(objective: Objective, world: _World) -> None:
    pairs = _cut(objective, world, _ROWS)
    chosen, rejected = objective.reward(pairs)
    here, there = (Gap(chosen + by, rejected + by, chosen - rejected) for by in (0, 1))
    if objective.link.symmetric:
        told = "a link with `symmetric` set must see nothing but the logit"
        _same(objective.link(here, pairs), objective.link(there, pairs), told)


def _check_terms(objective: Objective) -> None:
    import torch

    source = torch.Generator().manual_seed(2)
    policy, other = torch.randn(2, 5, 7, generator=source, dtype=torch.float64)
    ids = torch.rand(5, 7, generator=source).argsort(-1)[:, :3]
    known = ids.where(torch.arange(3) < 2, -1), policy.new_tensor([-1.5, -2.0, 0.0]).expand(5, 3)
    for term in objective.terms():

        def numbers(parts: Parts, term: TokenTerm = term) -> "Tensor":
            under = other.log_softmax(-1) if term.reference else None
            return term.function(parts["policy"].log_softmax(-1), under, known if term.column else None)

        ready = {"policy": policy.clone().requires_grad_()}
        found = numbers(ready)
        assert found.shape == (5,), f"term '{term.name}' must be one number a token, not {tuple(found.shape)}"
        _check_slope(found, numbers, ready, f"term '{term.name}'")


def _check_mask(objective: Objective) -> None:
    offsets = np.asarray([[0, 3], [3, 7], [-1, -1]])
    for side in SIDES:
        for weigh in (objective.mask.tokens, objective.mask.term_tokens):
            told = f"mask '{objective.mask.name}' must give each token a weight of at least 0, marked or not"
            assert weigh([], offsets, side).shape == (3,), told
            assert weigh([], offsets, side).min() >= 0, told


def _same(one: "Tensor", other: "Tensor", told: str, relative: float = 1e-9) -> None:
    gap, most = (one - other).detach().abs().max(), other.detach().abs().max().clamp(min=1)
    assert bool(gap <= relative * most), f"{told}: they differ by {float(gap):.3g} of {float(most):.3g}"
