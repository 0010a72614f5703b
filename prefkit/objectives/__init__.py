"""Objectives: losses over pairs, composed of frozen pieces; importable without torch."""

from prefkit.objectives.objective import Costs, Objective
from prefkit.objectives.piece import SIDES, Lists, Mask, Pairs, Piece, Response, Rows, Side, TokenTerm
from prefkit.objectives.presets import PRESETS

__all__ = [
    "PRESETS",
    "SIDES",
    "Costs",
    "Lists",
    "Mask",
    "Objective",
    "Pairs",
    "Piece",
    "Response",
    "Rows",
    "Side",
    "TokenTerm",
]
