"""Comparing datasets by what training on them gives: the statistics, as pure functions of arrays.

Arms are datasets; every arm is trained from the same model with the same seeds and measured on the same prompts, so a
difference is taken within a seed and a prompt before anything is averaged. Prompts *and* seeds are samples: an interval
over prompts alone says what these trained models differ in, not what the datasets do.
"""
