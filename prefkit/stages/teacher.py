"""Teacher: what a larger model would have written next, at every token of both responses, to distil from.

Kept are its k likeliest tokens with their log-probs, since whole distributions are as wide as the vocabulary. With the
same teacher from before its own preference training, the difference of the two is what that training taught it, token
by token: an advantage that a student can learn from on responses of its own. Both need a student that counts the same
tokens, so the digests of vocabulary and chat template are kept beside the numbers, and training compares them.

Source: Advantage-Guided Distillation for Preference Alignment in Small Language Models (DCKD and ADPA, ICLR 2025). Its
released example passes the student as the teacher from before, which the method does not mean.
"""

from collections.abc import Collection, Sequence
from typing import ClassVar, final

import numpy as np
import pyarrow as pa
from pydantic import PositiveInt

from prefkit.columns import ADVANTAGE, TEACHER, Columns, types
from prefkit.engines import Candidates, Engines, Failure, Model
from prefkit.errors import ContractError
from prefkit.stage import PAIRS, Context, Cost, Flow, Kind, Stage
from prefkit.stages.both_sides import TooLong, conversations, set_aside, too_long_drops
from prefkit.tables import put

__all__ = ["Teacher"]

_BLOCK_ROWS = 1024
"""Asked at once: batches fill up, and what is held beside the columns stays small."""
_NOTHING = Failure("the other side failed")


@final
class Teacher(Stage):
    """Write a teacher's `k` likeliest next tokens at every token of both responses, and what its training added.

    `rejected_advantage` is log teacher - log before, in nats, at the teacher's own candidates, where `before` is given.
    """

    name: ClassVar[str] = "teacher"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = PAIRS

    model: Model
    """The teacher: it must have the vocabulary and the chat template of the model that is trained."""
    before: Model | None = None
    """The same teacher before its preference training; it gives `rejected_advantage`."""
    k: PositiveInt = 50
    """How many tokens are kept at each place; a vocabulary with fewer is kept whole."""
    too_long: TooLong = "fail"
    """What happens to a pair with a side longer than a model reads: it fails, or it is dropped and counted."""

    def reads(self) -> Columns:
        return types("prompt", "chosen", "rejected")

    def writes(self) -> Columns:
        names = ("chosen_teacher", "rejected_teacher", "teacher_fingerprint")
        return types(*names) if self.before is None else types(*names, "rejected_advantage")

    def touches(self) -> Collection[str]:
        return ("tools",)

    def drops(self) -> Collection[str]:
        return too_long_drops(self.too_long)

    def cost(self) -> Cost:
        return Cost(calls=2 if self.before is None else 3)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        print_ = self._fingerprint(ctx.engines) if table.num_rows else ""
        empty = {name: pa.array([], kind) for name, kind in self.writes().items()}
        blocks = [table.slice(at, _BLOCK_ROWS) for at in range(0, table.num_rows, _BLOCK_ROWS)]
        made = [self._block(block, print_, ctx) for block in blocks]
        if not made:
            for name, nothing in empty.items():
                table = put(table, name, nothing)
            return table
        return pa.concat_tables(made)

    def _block(self, table: pa.Table, print_: str, ctx: Context) -> pa.Table:
        rows = table.num_rows
        answers = ctx.engines.next_tokens(self.model, conversations(table), self.k)
        if self.before is not None:
            gains = self._gains(self.before, table, answers[rows:], ctx.engines)
            answers = [*answers[:rows], *(_worst(*both) for both in zip(answers[rows:], gains, strict=True))]
            table = put(table, "rejected_advantage", _lists(gains, ADVANTAGE))
        table = put(table, "chosen_teacher", _lists(answers[:rows], TEACHER))
        table = put(table, "rejected_teacher", _lists(answers[rows:], TEACHER))
        table = put(table, "teacher_fingerprint", pa.array([print_] * rows, pa.string()))
        return set_aside(table, answers, ctx, self.too_long)

    def _gains(
        self, before: Model, table: pa.Table, told: Sequence[Candidates | Failure], engines: Engines
    ) -> list[Candidates | Failure]:
        """Return what training added to the teacher's candidates on rejected, where both models have an answer."""
        there = [(at, one) for at, one in enumerate(told) if isinstance(one, Candidates)]
        asked = conversations(table, ("rejected",))
        known = engines.next_tokens(before, [asked[at] for at, _ in there], [one.ids for _, one in there])
        found: list[Candidates | Failure] = [_NOTHING] * len(told)
        for (at, now), then in zip(there, known, strict=True):
            found[at] = (
                then if isinstance(then, Failure) else Candidates(now.ids, advantage(now.logps, then.logps))
            )
        return found

    def _fingerprint(self, engines: Engines) -> str:
        """Return digests of vocabulary, template and weights. Raises ContractError for models that count differently."""
        vocabulary = engines.vocabulary(self.model)
        models = [self.model] if self.before is None else [self.model, self.before]
        if any(engines.vocabulary(model) != vocabulary for model in models):
            what = (
                f"models '{models[0].id}' and '{models[-1].id}' have different vocabularies or chat templates"
            )
            raise ContractError(what, hint="`before` is the teacher itself, before its preference training")
        return "/".join([vocabulary, *(engines.fingerprint(model) for model in models)])


def advantage(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return what training added to log-probs, nats, float32. ADPA (ICLR 2025): log pi_trained - log pi_before."""
    return np.asarray(now - before, dtype=np.float32)


def _worst(told: Candidates | Failure, gain: Candidates | Failure) -> Candidates | Failure:
    """Return the failure of either, or what was told."""
    return gain if isinstance(told, Candidates) and isinstance(gain, Failure) else told


def _lists(answers: Sequence[Candidates | Failure], kind: pa.DataType) -> pa.Array:
    """Return one list of lists of (id, number) a row; null where there is no answer."""
    found = [answer for answer in answers if isinstance(answer, Candidates)]
    entry = kind.value_type.value_type
    ids, numbers = (
        np.concatenate([np.zeros(0, dtype), *(one[at].ravel() for one in found)]).astype(dtype)
        for at, dtype in enumerate((np.int32, np.float32))
    )
    widths = np.concatenate([np.zeros(0, np.int64), *(np.full(len(o.ids), o.ids.shape[1]) for o in found)])
    inner = pa.ListArray.from_arrays(
        _ends(widths), pa.StructArray.from_arrays([pa.array(ids), pa.array(numbers)], fields=list(entry))
    )
    sizes = np.asarray([len(one.ids) if isinstance(one, Candidates) else 0 for one in answers], np.int64)
    missing = pa.array([isinstance(one, Failure) for one in answers], pa.bool_())
    return pa.ListArray.from_arrays(_ends(sizes), inner, mask=missing).cast(kind)


def _ends(sizes: np.ndarray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
