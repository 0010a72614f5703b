"""Aggregators: several objectives, or several groups of people, become one number a response.

Pure functions of arrays; the `combine` stage is their Arrow coat. Objectives are columns: arrays are
[responses, objectives]. NaN is missing and stays NaN: what lacks one objective has no combined score.
"""
