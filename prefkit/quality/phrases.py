"""Stock phrases: refusals, hedges, words of praise and blame. English alone; other languages are not recognised.

A refusal declines what was asked, so it is looked for where an answer opens: "I cannot see why not" in its middle is none.
Over 35,196 answers of 88 public models to harmless instructions the pattern finds what docs/quality.md says it finds.
Sentiment is the share of loaded words, from short lists of our own: enough to see a label that follows tone, no more.
"""

import numpy as np
import polars as pl

__all__ = ["OPENING", "counts", "refusal"]

OPENING = 300
"""Characters of an answer in which a refusal is looked for."""
_CANNOT = r"(?:can(?:no|['’]?)t|can not|could ?n['’]?o?t|am (?:not able|unable)|['’]m (?:not able|unable)|won['’]?t|will not|do(?:n['’]t| not))"
_DOING = (
    r"(?:help|assist|provide|do that|comply|fulfil|support|engage|generate|create|write|share|give|offer|answer|discuss"
    r"|participate|continue|make|produce|condone|respond|recommend|tell you|browse|access|speculate|facilitate|encourage)"
)
_REFUSAL = (
    rf"(?i)\bI(?: am sorry,? but I)? ?(?:really |simply |just )?{_CANNOT}(?: (?:to|in good conscience|ethically|be able to|feel comfortable))?,? {_DOING}"
    r"|\b(?:I['’]?m|I am) (?:sorry|afraid)[^.!?\n]{0,40}\b(?:but )?(?:I )?(?:can(?:no|['’])t|can not|(?:am |['’]m )?(?:not able|unable)|won['’]t|will not)"
    r"|\bI (?:must|have to|need to|will have to) (?:respectfully )?(?:decline|refuse)\b"
    r"|\bI(?:['’]?m| am) not (?:able|allowed|permitted|going|comfortable)\b"
    r"|\bas an? (?:AI|language|artificial)[^.!?\n]{0,80}\b(?:can(?:no|['’])t|can not|unable|not able|do(?: not|n['’]t) (?:condone|support|engage))"
    r"|\b(?:against|violates?|goes against) (?:my|our|openai['’]s) (?:\w+ )?(?:guidelines|programming|policy|policies|principles)"
)
_LISTS = {
    "hedges": (
        "may might maybe perhaps possibly probably likely seems appears generally typically usually often sometimes"
        " somewhat roughly arguably presumably apparently"
    ),
    "praise": (
        "good great excellent best wonderful amazing fantastic love lovely beautiful happy glad perfect helpful"
        " enjoy enjoyable delightful brilliant positive success successful exciting nice thank thanks welcome"
        " valuable effective beneficial safe easy"
    ),
    "blame": (
        "bad worse worst terrible awful horrible hate ugly sad angry wrong poor harmful dangerous fail failed failure"
        " negative problem problems difficult hard unfortunately sorry illegal unethical risk risks error errors"
        " stupid useless damage pain"
    ),
}


def refusal(texts: pl.Series) -> np.ndarray:
    """Return which texts open with declining what was asked: bool [texts]; null does not."""
    return texts.str.slice(0, OPENING).str.contains(_REFUSAL).fill_null(False).to_numpy()


def counts(texts: pl.Series) -> dict[str, np.ndarray]:
    """Return how many words of each list a text has: float64 [texts] by the list's name; 0 for null."""
    plain = texts.fill_null("").str.to_lowercase()
    return {
        name: plain.str.count_matches(rf"\b(?:{'|'.join(words.split())})\b").cast(pl.Float64).to_numpy()
        for name, words in _LISTS.items()
    }
