"""Layouts: the public ways of writing preference data that prefkit recognises by itself.

The order matters: the first layout whose columns are there and whose first rows fit is taken, so the
particular come before the general.
"""

from prefkit.sources.layouts import helpsteer, pairs, prompts, responses, transcripts, ultrafeedback, verdicts
from prefkit.sources.layouts.layout import Head, Layout

__all__ = ["LAYOUTS", "Head", "Layout", "by_name", "known_hub", "recognise"]

LAYOUTS: tuple[Layout, ...] = (
    # pairs with a verdict
    verdicts.ALPACA_EVAL,
    verdicts.PANDALM,
    verdicts.PKU,
    helpsteer.HELPSTEER2_PREFERENCE,
    helpsteer.HELPSTEER3,
    # pairs with a direction
    transcripts.HH,
    pairs.SHAREGPT,
    pairs.AXOLOTL,
    pairs.ULTRA_BINARIZED,
    pairs.TULU,
    pairs.IMPLICIT,
    pairs.EXPLICIT,
    pairs.ORCA,
    pairs.ALPACA_RANKING,
    pairs.IMPLICIT_TEXT,
    # responses
    ultrafeedback.ULTRAFEEDBACK,
    transcripts.NECTAR,
    helpsteer.HELPSTEER_DISAGREEMENTS,
    helpsteer.HELPSTEER,
    responses.GSM8K,
    responses.ALPACA_OUTPUTS,
    responses.UNPAIRED,
    responses.KTO,
    responses.CONVERSATION,
    responses.RESPONSES,
    # prompts
    prompts.MT_BENCH,
    prompts.OPEN_CONVERSATION,
    prompts.PROMPTS,
)


def recognise(head: Head) -> Layout | None:
    """Return the layout of these rows, if one is known."""
    return next((one for one in LAYOUTS if one.has_columns(head.names) and one.matches(head)), None)


def by_name(name: str) -> Layout | None:
    """Return the layout of this name, if there is one."""
    return next((one for one in LAYOUTS if one.name == name), None)


def known_hub(name: str) -> Layout | None:
    """Return the layout in which a hub dataset is known to be written."""
    return next((one for one in LAYOUTS if name in one.hubs), None)
