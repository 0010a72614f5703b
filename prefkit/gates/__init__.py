"""Gates: what a finished dataset must pass, or the build stops or the card says so.

A gate is a rule (`rules`: a figure, a limit, what happens), which a recipe may change under `fail_if:` (`said`). Figures
come from the manifests of the run alone (`measures`), so gating a build that was cached costs nothing and reads no row.
What is wrong with a dataset stops; what is lopsided about it is marked, because lopsided data is sometimes what there is.
How few rows are judged stands in `verdict`.
"""
