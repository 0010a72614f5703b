"""Objectives: losses over pairs, composed of frozen pieces; importable without torch."""

from prefkit.objectives.objective import Costs, Objective
from prefkit.objectives.piece import Pairs, Piece, Response
from prefkit.objectives.presets import PRESETS

__all__ = ["PRESETS", "Costs", "Objective", "Pairs", "Piece", "Response"]
