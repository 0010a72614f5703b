"""Weighting: what a pair should count, as pure functions of arrays. The `weight` stage is their Arrow coat.

Functions return raw weights, at least 0, NaN where something is missing; `estimators.weights` scales them to mean 1.
"""
