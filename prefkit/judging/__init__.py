"""Judging: what it takes to ask a model for a verdict and to know how far to believe it.

A judge is not an engine. It is a wording (`wording`), a model that writes, and a parser (`verdicts`); `tasks` puts them
together, `matches` says which responses meet, `records` keeps every answer, and `measures` and `canaries` say what the
answers tell of the judge.
"""
