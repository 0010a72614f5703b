"""Scorers: what a `score` step may get its numbers from, one file a kind.

A scorer is a frozen config. It is given response rows, or the two sides of pairs, and returns columns of each side and
columns of the pair as a whole; the step puts them where they belong, and makes what is not finite null. A model that
would not answer is an error of its row, which is tried again on the next build; a number that is missing for any other
reason is null, and never a default.
"""
