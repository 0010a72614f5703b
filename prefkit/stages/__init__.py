"""The built-in stages, as an explicit tuple. To add one: write its file, add it here."""

from prefkit.stage import Stage
from prefkit.stages.acquire import Acquire
from prefkit.stages.analyse import Analyse
from prefkit.stages.annotators import Annotators
from prefkit.stages.balance import Balance
from prefkit.stages.combine import Combine
from prefkit.stages.condition import Condition
from prefkit.stages.consistency import Consistency
from prefkit.stages.constraints import Constraints
from prefkit.stages.continue_ import Continue
from prefkit.stages.corrupt import Corrupt
from prefkit.stages.decontaminate import Decontaminate
from prefkit.stages.dedup import Dedup
from prefkit.stages.degree import Degree
from prefkit.stages.difficulty import Difficulty
from prefkit.stages.direction import Direction
from prefkit.stages.filter import Filter
from prefkit.stages.judge import Judge
from prefkit.stages.label import Label
from prefkit.stages.margin import Margin
from prefkit.stages.mix import Mix
from prefkit.stages.on_policy import OnPolicy
from prefkit.stages.order import Order
from prefkit.stages.pair import Pair
from prefkit.stages.pass_rate import PassRate
from prefkit.stages.personas import Personas
from prefkit.stages.pool import Pool
from prefkit.stages.rationale import Rationale
from prefkit.stages.redact import Redact
from prefkit.stages.reference import Reference
from prefkit.stages.reference_answer import ReferenceAnswer
from prefkit.stages.revise import Revise
from prefkit.stages.sample import Sample
from prefkit.stages.score import Score
from prefkit.stages.select import Select
from prefkit.stages.siblings import Siblings
from prefkit.stages.spans import Spans
from prefkit.stages.split import Split
from prefkit.stages.teacher import Teacher
from prefkit.stages.trace import Trace
from prefkit.stages.weight import Weight
from prefkit.stages.win_rate import WinRate

__all__ = ["BUILTIN"]

BUILTIN: tuple[type[Stage], ...] = (
    Sample,
    Pool,
    ReferenceAnswer,
    Score,
    Judge,
    Combine,
    Consistency,
    PassRate,
    WinRate,
    Select,
    Direction,
    Continue,
    Siblings,
    Revise,
    Corrupt,
    Pair,
    Annotators,
    Personas,
    Rationale,
    Label,
    Margin,
    Weight,
    Filter,
    Redact,
    Balance,
    Acquire,
    Analyse,
    Dedup,
    Decontaminate,
    Mix,
    OnPolicy,
    Split,
    Condition,
    Constraints,
    Difficulty,
    Order,
    Trace,
    Degree,
    Spans,
    Reference,
    Teacher,
)
