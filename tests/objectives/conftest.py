"""Worked examples as batches, and what an objective spelled as in a recipe says of them."""

import json
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from prefkit.objectives import SIDES, Costs, Lists, Objective, Pairs, Response, Rows
from prefkit.yaml_strict import parse_value, plain

P0 = (-12.0, -14.5, -13.0, -13.5)
"""Log-probs of chosen and rejected, then of both under the reference: log-ratios 1 and -1, lengths 8 and 10."""
T0 = {
    "chosen": (
        (-1.0, -0.5, -2.0, -0.8, -0.7),
        (-1.2, -0.6, -1.8, -1.5, -0.9),
        (0.02, 0.01, 0.05, 0.10, 0.03),
    ),
    "rejected": (
        (-1.0, -0.5, -3.0, -1.1, -0.6, -0.8),
        (-1.2, -0.6, -2.0, -0.9, -0.7, -0.6),
        (0.02, 0.01, 0.20, 0.04, 0.01, 0.02),
    ),
}
"""Per token of each side: log-prob, log-prob under the reference, KL(reference || policy). One character a token."""
Spans = Sequence[tuple[str, int, int, int, float | None]]
"""kind, start, end, id, value."""


def tensor(values: object) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


_GOLDEN = Path(__file__).parents[1] / "golden" / "objectives.json"
_PARTS = {"lists": {"A14", "A15", "A20"}, "tokens": {"A17", "A18", "A19", "A28"}}


class Lab:
    """Batches in float64, and what comes of them."""

    def golden(self, part: str) -> dict[str, object]:
        """Return the worked numbers of a part: `early` methods (to 13), `lists`, `tokens`, or `late`, the others."""
        found: dict[str, dict[str, object]] = {"early": {}, "lists": {}, "tokens": {}, "late": {}}
        for name, value in json.loads(_GOLDEN.read_text()).items():
            own = [part for part, methods in _PARTS.items() if name[:3] in methods]
            found[own[0] if own else "early" if name < "A14" else "late"][name] = value
        return found[part]

    def equal(self, found: object, name: str, part: str) -> None:
        """Assert that a worked number came out, to the six places it is told with."""
        told = self.golden(part)[name]
        expected = [*told.values()] if isinstance(told, dict) else told
        assert tensor(found).flatten().tolist() == pytest.approx(
            tensor(expected).flatten().tolist(), abs=1e-6
        )

    def objective(self, spelling: object) -> Objective:
        """Read an objective as a recipe spells it: YAML on one line, or what that line means."""
        told = plain(parse_value(spelling, "objective")) if isinstance(spelling, str) else spelling
        return Objective.model_validate(told)

    def pairs(
        self,
        *rows: tuple[float, float, float, float],
        tokens: tuple[float, float] = (8, 10),
        terms: Mapping[str, tuple[float, float]] | None = None,
        **columns: object,
    ) -> Pairs:
        """Return pairs of (chosen, rejected, reference of chosen, reference of rejected); without any, P0."""
        logps = tensor(rows or [P0]).T
        count = len(logps[0])
        sides = [
            Response(
                logps[at].clone().requires_grad_(),
                tensor([tokens[at]] * count),
                logps[2 + at],
                terms={name: tensor([both[at]]) for name, both in (terms or {}).items()},
            )
            for at in (0, 1)
        ]
        told = {name: tensor(values).reshape(-1) for name, values in columns.items()}
        return Pairs(*sides, {name: values.expand(count) for name, values in told.items()})

    def ranked(
        self, logps: Sequence[float], scores: Sequence[float], tokens: Sequence[float] | None = None
    ) -> Pairs:
        """Return every pair of one list whose chosen response has the higher score. The reference is 0."""
        both = [(a, b) for a, b in permutations(range(len(logps)), 2) if scores[a] > scores[b]]
        values, lengths = tensor(logps), tensor(tokens or [1] * len(logps))
        at = torch.tensor(both).T
        sides = [
            Response(values[one].clone().requires_grad_(), lengths[one], torch.zeros(len(both)).double())
            for one in at
        ]
        columns = {f"{side}_score": tensor(scores)[one] for side, one in zip(SIDES, at, strict=True)}
        return Pairs(*sides, columns, Lists(torch.zeros(len(both), dtype=torch.long), at[0], at[1]))

    def masked(self, mask: object, chosen: Spans, rejected: Spans) -> Pairs:
        """Return the pair T0 as a mask leaves it."""
        piece, sides = self.objective({"mask": mask}).mask, []
        for side, spans in zip(SIDES, (chosen, rejected), strict=True):
            logp, reference, kl = (tensor(values) for values in T0[side])
            weigh, weigh_term = (
                tensor(call(*marks(spans, len(kl)), side)) for call in (piece.tokens, piece.term_tokens)
            )
            terms = {"masked-kl": (weigh_term * kl).sum()[None], "kl": kl.sum()[None]}
            sums = ((weigh * values).sum()[None] for values in (logp, torch.ones_like(logp), reference))
            sides.append(Response(*sums, logp.sum()[None], tensor([len(kl)]), terms))
        return Pairs(*sides)

    def weights(self, mask: object, spans: Spans, tokens: int, side: str) -> np.ndarray:
        """Return what a mask gives each token of a text of as many characters."""
        return self.objective({"mask": mask}).mask.tokens(*marks(spans, tokens), side)

    def logit(self, spelling: object, batch: Pairs) -> torch.Tensor:
        """Return the reward gap less the offset."""
        told = self.costs(spelling, batch)
        return told.chosen_reward - told.rejected_reward - self.objective(spelling).offset(batch)

    def costs(self, spelling: object, batch: Pairs) -> Costs:
        return self.objective(spelling)(batch)

    def cost(self, spelling: object, *rows: tuple[float, float, float, float], **columns: object) -> float:
        """Return the mean cost of rows, extras included."""
        told = self.costs(spelling, self.pairs(*rows, **columns))
        return (told.loss + told.extra).mean().item()

    def step(self, spelling: object, batch: Pairs, squares: object = None) -> float:
        """Return what the trainer would minimise, this batch being the whole step."""
        objective = self.objective(spelling)
        costs = objective(batch)
        units = len(batch.lists.prompt.unique()) if batch.lists and objective.listwise() else len(costs.loss)
        shares = objective.reducer(Rows(costs.loss.detach(), batch.columns, units))
        beside = costs.extra
        if squares is not None:
            beside = beside + objective.penalty(squares, float(squares.mean()))
        return ((shares * costs.weight * costs.loss).sum() + beside.sum() / units).item()

    def slopes(
        self, spelling: object, *rows: tuple[float, float, float, float], **columns: object
    ) -> np.ndarray:
        """Return the gradient of the summed costs in the log-probs of chosen and rejected, [2, rows]."""
        batch = self.pairs(*rows, **columns)
        told = self.costs(spelling, batch)
        total = (told.loss + told.extra).sum()
        both = [batch.chosen.logp, batch.rejected.logp]
        return torch.stack(torch.autograd.grad(total, both, materialize_grads=True)).numpy()


def marks(spans: Spans, tokens: int) -> tuple[list[dict[str, object]], np.ndarray]:
    """Return spans as rows carry them, and the offsets of a text with one character a token."""
    told = [dict(zip(("kind", "start", "end", "id", "value"), span, strict=True)) for span in spans]
    return told, np.stack([np.arange(tokens), np.arange(1, tokens + 1)], axis=1)


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()
