"""Conditioning: what a prompt may say beside its request (a goal, a direction, examples, a person, constraints).

Pure functions of texts and numbers; the stages around them bring the columns.
"""
