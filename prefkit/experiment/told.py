"""The figures of a comparison as people read them: one name a metric, one way to write a number, and wins in per cent."""

from collections.abc import Mapping

from prefkit.card.markdown import code, number
from prefkit.experiment.report import METRICS, Comparison, Figure

__all__ = ["GLOSSARY", "deciding", "first_in", "has_wins", "interval", "title_of", "wins"]

_WINS = frozenset({"win_rate", "length_controlled", "judge", "judge_length_controlled", "second_win_rate"})
"""Metrics that are wins against the first dataset: 2 x share - 1, so that the share can be told."""
_NARROW = 0.08
"""An interval of 2 x share - 1 that is narrower is told with a decimal of a per cent."""
_FIRST = "the first dataset"


def has_wins(metric: str) -> bool:
    """Say whether a metric is of wins against the first dataset, of which the share can be told."""
    return metric.removesuffix("_bootstrap") in _WINS


def wins(figure: Figure) -> str:
    """Return the share of wins of a figure that is 2 x share - 1, with its interval: `37 % (32 to 41)`."""
    if figure.estimate is None:
        return ""
    if figure.low is None or figure.high is None:
        return f"{_share(figure.estimate, 0)} %"
    digits = 1 if figure.high - figure.low < _NARROW else 0
    ends = f"{_share(figure.low, digits)} to {_share(figure.high, digits)}"
    return f"{_share(figure.estimate, digits)} % ({ends})"


def _share(value: float, digits: int) -> str:
    return f"{min(max(50 * (1 + value), 0.0), 100.0):.{digits}f}"


def interval(figure: Figure, sign: str = "") -> str:
    """Return an estimate with its interval."""
    if figure.estimate is None:
        return ""
    told = _told(figure.estimate, sign)
    if figure.low is None or figure.high is None:
        return told
    return f"{told} ({_told(figure.low, sign)} to {_told(figure.high, sign)})"


def _told(value: float, sign: str) -> str:
    return format(value, f"{sign}.3f") if abs(value) < 100 else number(value)


def title_of(metric: str, first: str = "") -> str:
    """Return what a metric is called, the first dataset by its name where that is given. Markdown."""
    stem, _, of = metric.partition(":")
    if of:
        return f"{METRICS[stem].title.partition(',')[0]} of {code(of)}"
    if metric.endswith("_bootstrap"):
        return f"{title_of(metric.removesuffix('_bootstrap'), first)}, bootstrap"
    title = METRICS[metric].title if metric in METRICS else _MATCHED
    return title.replace(_FIRST, first_in(first)) if first else title


def first_in(name: str) -> str:
    """Return the name of a dataset in a sentence; Markdown."""
    return code(name)


_MATCHED = "win rate against the untrained model, at equal KL"

GLOSSARY: Mapping[str, str] = {
    "wins, win rate": "of two models' answers to the same held-out prompt, how often the first one scores higher; a tie counts half, so even is 50 %.",
    "2 x share - 1": "wins less losses, as a share: the figure of the statistics. 0 is even, 1 wins always, -1 never; -0.2 is a win rate of 40 %.",
    "(… to …)": "a 95 % interval: what the figure could be for other prompts and, where training differs by seed, for other runs.",
    "answers equally long": "the win rate that a model of score and length expects of two answers of the same length, since scorers favour long ones.",
    "at equal KL": "win rates against the untrained model, of models on their way that are equally far from it; another figure than at the end of training.",
    "untrained model, reference": "the model that all training starts from.",
    "held-out": "prompts and pairs that no model was trained on.",
    "reward accuracy": "the share of held-out pairs in which training made chosen likelier by more than rejected.",
    "ranking accuracy": "the share of held-out pairs in which chosen is likelier than rejected.",
    "implied probability, Brier score": "how sure a model is that chosen is better, by its log-ratios; the Brier score is the squared distance of that to the label, 0 best, 0.25 for a coin.",
    "log-ratio": "how much likelier a text is to the trained model than to the reference, in nats: 0.69 nats are twice as likely.",
    "KL, k1, k3": "how far a model has moved from the reference, in nats an answer; k1 and k3 are two ways to estimate it from its own answers: k1 is unbiased, k3 is never negative.",
    "seed": "the number that the order of rows and the drawing of answers are taken from. Where rows come in an order of their own, another seed only draws other answers.",
    "control": "a dataset whose result is known: a copy of the first must not differ from it, and one with flipped labels must lose.",
    "p, after Holm": "how often chance alone would give such a difference; Holm makes up for having tested several measures.",
    "pigeonhole bootstrap": "prompts and seeds drawn again, each by itself, some thousand times: an interval without assumptions about how values are distributed.",
    "looks, error spent": "planned times at which the result was read while runs were still to come, and what they used of the 5 % of false alarms.",
    "power 80 %": "a true difference of this size would be detected in four of five such comparisons.",
    "changed by another seed too": "the share of the weights that one run changed which another run changed as well; beside it, what chance would give.",
}
"""Words of the report and of its page, each explained once."""


def deciding(report: Comparison, figure: Figure, first: str = "") -> str:
    """Return what the figure that decides is called, with the level of its interval where a look has another than 95 %."""
    title = title_of(report.primary, first)
    return title if abs(figure.level - 0.95) < 1e-9 else f"{title} ({figure.level:.2%} interval)"
