"""Words on a page: those of the trade that occur on it, one line each, linked from where they first stand.

Only prefkit's own sentences are looked through, never rows: a word is linked in a fragment of HTML, outside what is code, a
heading, a link, a control or a drawing.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["WORDS", "Glossary"]

WORDS: Mapping[str, tuple[str, str]] = {
    "chosen": (r"chosen", "the answer of a pair that is taken for the better one"),
    "rejected": (r"rejected", "the answer of a pair that is taken for the worse one"),
    "95 %": (
        r"95[ \u00a0]%:",
        "an interval: drawn again and again, such intervals hold the true value 95 times in 100",
    ),
    "AUC": (
        r"AUC",
        "how well a number tells two kinds apart: 0.5 not at all, 1 or 0 entirely. Of length, see *In one minute*",
    ),
    "margin": (r"margins?", "by how much chosen is taken to be better; {margin}"),
    "score gap": (r"score gap", "score of chosen less score of rejected"),
    "length gap": (
        r"length (?:gap|difference)",
        "characters of chosen less those of rejected: above 0, chosen is longer",
    ),
    "tie": (r"ties?", "a pair, or a vote, that calls neither side better"),
    "kappa": (r"kappa", "agreement of raters beyond chance: 0 as by chance, 1 always the same"),
    "alpha": (
        r"alpha",
        "Krippendorff's alpha: agreement of raters beyond chance, where some rated only a part; 1 is perfect",
    ),
    "log-prob": (
        r"log-probs?",
        "the logarithm of how probable a model finds a text; nearer to 0 is likelier",
    ),
    "nats": (
        r"nats?",
        "the unit of log-probs with the natural logarithm: one nat less is 2.7 times less likely",
    ),
    "reference": (
        r"reference(?: model)?",
        "the model whose log-probs training compares with, as a rule the one that training starts from",
    ),
    "policy": (r"policy", "the model that is trained"),
    "flipped": (r"flipped", "a step turned the pair round: what was chosen is now rejected"),
    "rank correlation": (
        r"[Rr]ank correlation|Spearman",
        "whether two numbers go up together, from -1 to 1; 0 is not at all",
    ),
    "phase": (r"phases?", "a part of the training order: all pairs of phase 0 come before those of phase 1"),
    "held-out": (r"[Hh]eld[- ]out|held out", "kept away from training, to test on"),
    "weight": (r"weight", "how much a pair counts in training"),
    "score_std": (
        r"score_std|score std",
        "how far the ratings behind a score lie apart: their standard deviation",
    ),
    "gate": (r"gates?", "a check with a limit: where it fails, a build stops or its card is marked"),
    "DPO": (r"DPO|dpo", "direct preference optimisation: training on pairs without a reward model"),
}
"""Word: how it is spelled in running text, and what it means."""
_OUTSIDE = frozenset(
    ("a", "code", "svg", "summary", "button", "select", "h1", "h2", "h3", "h4", "dt", "caption", "thead")
)
_TAG = re.compile(r"(<[^>]*>)")
_NAME = re.compile(r"</?([a-z0-9]+)", re.IGNORECASE)


class Glossary:
    """The words of one page: links each where it first stands, and remembers which there were."""

    def __init__(self, margin: str = "") -> None:
        self._margin = margin
        self._found: set[str] = set()

    def link(self, html: "Markup") -> "Markup":
        """Return a fragment of a page with words linked that were not linked before, and no break before a `%`."""
        from markupsafe import Markup

        parts, inside = _TAG.split(str(html)), list[str]()
        for at, part in enumerate(parts):
            if at % 2:
                _follow(part, inside)
            elif "svg" not in inside:
                part = part.replace(" %", "\u00a0%")  # noqa: PLW2901 - a number and its sign stay on one line
                parts[at] = part if inside or not part.strip() else self._linked(part)
        return Markup("".join(parts))  # noqa: S704 - what came in was markup, and only links of our own are added

    def words(self) -> list[tuple[str, str, str]]:
        """Return the words that were linked, by the alphabet: anchor, word, meaning."""
        found = sorted(self._found, key=str.lower)
        margin = self._margin or "its step says how it is worked out"
        return [(_anchor(word), word, WORDS[word][1].replace("{margin}", margin)) for word in found]

    def _linked(self, part: str) -> str:
        starts: list[tuple[int, int, str]] = []
        for word, (spelled, _) in WORDS.items():
            hit = None if word in self._found else re.search(rf"(?<![\w`-]){spelled}(?![\w-])", part)
            if hit and all(hit.end() <= start or hit.start() >= end for start, end, _ in starts):
                starts.append((*hit.span(), word))
                self._found.add(word)
        for start, end, word in sorted(starts, reverse=True):
            part = f'{part[:start]}<a class="word" href="#{_anchor(word)}">{part[start:end]}</a>{part[end:]}'
        return part


def _anchor(word: str) -> str:
    return "word-" + re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")


def _follow(tag: str, inside: list[str]) -> None:
    """Keep account of the elements that a fragment is in, of those in which nothing is linked."""
    found = _NAME.match(tag)
    name = found[1].lower() if found else ""
    if name not in _OUTSIDE or tag.endswith("/>"):
        return
    if not tag.startswith("</"):
        inside.append(name)
    elif name in inside:
        inside.remove(name)
