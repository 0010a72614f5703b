"""The arms of the toy-world experiments: what is done to the same answers before a policy learns from them.

Each arm is what a user would write in a recipe after its pool of scored answers. Only the raters are made up, as two
stages of their own: a reward model with noise and a taste for length, and annotators who are right at known rates.
Everything that handles what they say is a stage of the package.
"""

from typing import Any, ClassVar, NamedTuple, final

import numpy as np
import pyarrow as pa

from prefkit.columns import MESSAGES, VOTES, Columns, types
from prefkit.engines import Model
from prefkit.objectives import Objective
from prefkit.stage import PAIRS, RESPONSES, Context, Flow, Kind, Stage
from prefkit.stages.dedup import Dedup
from prefkit.stages.filter import Filter
from prefkit.stages.label import Label
from prefkit.stages.margin import Margin
from prefkit.stages.mix import Mix
from prefkit.stages.order import Order
from prefkit.stages.pair import Pair
from prefkit.stages.reference import Reference
from prefkit.stages.sample import Sample
from prefkit.stages.score import Score
from prefkit.stages.weight import Weight
from prefkit.tables import floats, nullable, put
from prefkit.texts import characters

__all__ = ["ARMS", "EXPERIMENTS", "PERSONS", "POLICY", "Arm", "Proxy", "Votes", "pool"]

POLICY = Model(id="prefkit/toy-policy")
PERSONS = (0.92, 0.75, 0.60, 0.55, 0.40)
"""How often each annotator is right."""
PROMPTS = 200
"""Prompts whose answers pairs are made of."""
BETA = 0.5
"""As in the quick start, as are batches, epochs and learning rate."""
RATE = 0.3
"""Share of flipped labels that the losses are compared on."""


@final
class Proxy(Stage):
    """Write `proxy`: the gold reward with normal noise, and so much more for each character."""

    name: ClassVar[str] = "proxy"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = RESPONSES
    random: ClassVar[bool] = True

    noise: float = 0.15
    """Standard deviation, in units of gold."""
    bonus: float = 0.015
    """What a character is worth."""

    def reads(self) -> Columns:
        return {"id": pa.string(), "response": MESSAGES, "gold": pa.float64()}

    def writes(self) -> Columns:
        return {"proxy": pa.float64()}

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        radius, angle = (ctx.uniform(self, table["id"].to_pylist(), draw) for draw in range(2))
        normal = np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)
        told = floats(table["gold"]) + self.noise * normal + self.bonus * characters(table["response"])
        return put(table, "proxy", nullable(told))


@final
class Votes(Stage):
    """Write `votes` of people who are right at known rates, on which side of a pair has the higher gold reward."""

    name: ClassVar[str] = "made-up-votes"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = PAIRS
    random: ClassVar[bool] = True

    rates: tuple[float, ...] = PERSONS
    """How often each is right."""
    alone: bool = False
    """Whether one of them, drawn for each pair, votes, or all do."""

    def reads(self) -> Columns:
        return {**types("id"), "chosen_gold": pa.float64(), "rejected_gold": pa.float64()}

    def writes(self) -> Columns:
        return types("votes")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        ids = table["id"].to_pylist()
        better = floats(table["chosen_gold"]) > floats(table["rejected_gold"])
        people = len(self.rates)
        right = np.stack([ctx.uniform(self, ids, at) < rate for at, rate in enumerate(self.rates)], axis=1)
        asked = (ctx.uniform(self, ids, people) * people).astype(int)
        votes = [
            [
                _vote(at, for_chosen=says == truth)
                for at, says in enumerate(row)
                if at == who or not self.alone
            ]
            for row, who, truth in zip(right.tolist(), asked.tolist(), better.tolist(), strict=True)
        ]
        return put(table, "votes", pa.array(votes, VOTES))


def _vote(who: int, *, for_chosen: bool) -> dict[str, Any]:
    winner = "chosen" if for_chosen else "rejected"
    nothing = dict.fromkeys(("order", "p", "strength", "rationale"))
    return {"judge": f"person {who}", "winner": winner, **nothing}


def _dpo(preset: str = "dpo", **settings: float | str) -> Objective:
    return Objective.model_validate({"preset": preset, "beta": BETA, **settings})


class Arm(NamedTuple):
    """What becomes of the pool, and how the policy learns from it."""

    stages: tuple[Stage, ...]
    objective: Objective = _dpo()
    epochs: int = 2
    obeys: bool = False
    """Whether the trainer keeps to `rank`; otherwise pairs are shuffled."""


def pool(n: int = 8) -> tuple[Stage, ...]:
    """Return the stages that all arms share: answers of the policy and their gold reward."""
    return (
        Sample(model=POLICY, n=n, max_tokens=96),
        Filter(drop=("empty", "truncated")),
        Dedup(by="response"),
        Score(rule="toy-gold", into="gold"),
    )


def _pairs(by: str = "gold", *, kind: str = "fold", most: int | None = 2, **more: Any) -> Pair:
    """Two widest disjoint pairs a prompt, unless said otherwise."""
    return Pair(kind=kind, by=by, max_pairs=most, min_margin=0.05, **more)


_REFERENCE = Reference(model=POLICY)
_GOLD = (_pairs(), _REFERENCE)
_MARGIN = Margin(by="gold")
_HIDDEN = Label(ops=({"flip": {"rate": 0.5}},))
"""Which side is stored as chosen says nothing before anyone has voted."""
_EVERYBODY = (*_GOLD, _HIDDEN, Votes())


def _labelled(*ops: Any) -> Label:
    return Label(ops=ops)


def _crowd(*ops: Any) -> tuple[Stage, ...]:
    return (*_EVERYBODY, _labelled(*ops, "orient"))


_SKENE = {"from-judges": {"model": "dawid-skene"}}
_NOISY = (*_GOLD, _labelled({"flip": {"rate": RATE}}))
_IPO = Objective.model_validate("ipo")
_BIASED = Proxy()
_ALL = _pairs("proxy", kind="all", most=None).model_copy(update={"min_margin": 0.0})
_RESIDUAL = Margin(by="proxy", transform="residual-length")
_BY_MARGIN = _labelled({"orient": {"by": "margin"}})
_WIDEST = Filter(keep=({"column": "margin", "min": 0.05},), top={"column": "margin", "k": 2})


def _half(which: str) -> Filter:
    return Filter(best={"column": "margin", "share": 0.5, "order": which})


ARMS: dict[str, Arm] = {
    "clean": Arm(_GOLD),
    **{
        f"flipped {rate:.0%}": Arm((*_GOLD, _labelled({"flip": {"rate": rate}})))
        for rate in (0.1, 0.2, RATE, 0.4)
    },
    "one annotator": Arm(
        (*_GOLD, _HIDDEN, Votes(alone=True), _labelled("from-votes", "orient")),
    ),
    "majority": Arm(_crowd("from-votes")),
    "dawid-skene": Arm(_crowd(_SKENE)),
    "dawid-skene, soft": Arm(_crowd(_SKENE), _dpo("soft-dpo")),
    "dawid-skene, weights": Arm((*_crowd(_SKENE), Weight(kind="certainty")), _dpo("weighted-dpo")),
    "dawid-skene, sure": Arm((*_crowd(_SKENE), Filter(keep=({"column": "p_chosen", "min": 0.9},)))),
    "length-biased proxy": Arm((_BIASED, _pairs("proxy"), _REFERENCE)),
    "residual of chosen pairs": Arm((_BIASED, _pairs("proxy"), _RESIDUAL, _BY_MARGIN, _REFERENCE)),
    "residual of all pairs": Arm((_BIASED, _ALL, _RESIDUAL, _BY_MARGIN, _WIDEST, _REFERENCE)),
    "lengths alike": Arm((_BIASED, _pairs("proxy", kind="all", length_ratio_max=1.1), _REFERENCE)),
    "cdpo": Arm(_NOISY, _dpo("cdpo", rate=RATE)),
    "rdpo": Arm(_NOISY, _dpo("rdpo", rate=RATE)),
    "ipo": Arm(_NOISY, _IPO),
    "lcpo": Arm(_NOISY, _dpo("lcpo", by="none", eta=1 - RATE)),
    "ipo, clean": Arm(_GOLD, _IPO),
    "easy first": Arm((*_GOLD, _MARGIN, Order(kind="sort")), epochs=1, obeys=True),
    "hard first": Arm((*_GOLD, _MARGIN, Order(kind="sort", easy_first=False)), epochs=1, obeys=True),
    "random order": Arm((*_GOLD, _MARGIN, Order(kind="shuffle")), epochs=1, obeys=True),
    "wide margins": Arm((*_GOLD, _MARGIN, _half("highest"))),
    "small margins": Arm((*_GOLD, _MARGIN, _half("lowest"))),
    "half of the prompts": Arm((*_GOLD, Mix(total=PROMPTS // 2))),
}
_FLIPS = tuple(f"flipped {rate:.0%}" for rate in (0.1, 0.2, RATE, 0.4))
EXPERIMENTS: dict[str, tuple[str, ...]] = {
    "flips": ("clean", *_FLIPS),
    "annotators": ("one annotator", "majority", "dawid-skene", "dawid-skene, soft", "clean"),
    "proxy": (
        "length-biased proxy",
        "residual of chosen pairs",
        "residual of all pairs",
        "lengths alike",
        "clean",
    ),
    "losses": (f"flipped {RATE:.0%}", "cdpo", "rdpo", "lcpo", "ipo", "ipo, clean"),
    "beliefs": ("dawid-skene", "dawid-skene, soft", "dawid-skene, weights", "dawid-skene, sure"),
    "curriculum": ("easy first", "random order", "hard first"),
    "selection": ("wide margins", "half of the prompts", "small margins", "clean"),
}
"""Which arms an experiment compares; an arm that two of them share is run once."""
