"""The built-in stages, as an explicit tuple. To add one: write its file, add it here."""

from prefkit.stage import Stage
from prefkit.stages.annotators import Annotators
from prefkit.stages.dedup import Dedup
from prefkit.stages.degree import Degree
from prefkit.stages.filter import Filter
from prefkit.stages.label import Label
from prefkit.stages.margin import Margin
from prefkit.stages.mix import Mix
from prefkit.stages.order import Order
from prefkit.stages.pair import Pair
from prefkit.stages.pass_rate import PassRate
from prefkit.stages.rationale import Rationale
from prefkit.stages.reference import Reference
from prefkit.stages.reference_answer import ReferenceAnswer
from prefkit.stages.sample import Sample
from prefkit.stages.score import Score
from prefkit.stages.spans import Spans
from prefkit.stages.split import Split
from prefkit.stages.teacher import Teacher
from prefkit.stages.trace import Trace
from prefkit.stages.weight import Weight
from prefkit.stages.win_rate import WinRate

__all__ = ["BUILTIN"]

BUILTIN: tuple[type[Stage], ...] = (
    Sample,
    ReferenceAnswer,
    Score,
    PassRate,
    WinRate,
    Pair,
    Annotators,
    Rationale,
    Label,
    Margin,
    Weight,
    Filter,
    Dedup,
    Mix,
    Split,
    Order,
    Trace,
    Degree,
    Spans,
    Reference,
    Teacher,
)
