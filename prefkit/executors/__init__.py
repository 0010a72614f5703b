"""Executors: where the parts of a step are made. Stages do not know which one runs them.

An executor takes what all tasks of a step share, and the tasks, and yields their parts: here or in worker processes
(`local`), or on a Ray cluster (`ray`). What a part is, and where it is filed, is the same everywhere.
"""
