"""The exercises: one module an objective (`lesson_06_block` trains "06.block"), each with a tuple `EXERCISES`.

A diagnosis is a mistake that is often made, written as the function that makes it. What the learner
is told about it stands in the strings table, by its key.
"""
