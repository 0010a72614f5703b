"""Analysis: what a dataset is like as a whole, as pure functions of arrays; `analyse` is the stage around them.

Every figure is an `Estimate`: its value, a 95 % interval in which rows of one prompt count together, and how many rows are
behind it.
"""
