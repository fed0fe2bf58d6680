"""The documents' experiments: `python -m experiments` lists them, `python -m experiments NAME` runs one.

An experiment is a file here that calls `registry.experiment`; the others are the workshop: registry.py (what an experiment is),
running.py (its runs, one after the other or side by side), journal.py (finished runs, on the disk), statistics.py (intervals and
verdicts), tables.py (Markdown, PNG, JSON), timing.py (turns of a stopwatch), images.py (what networks are trained on).
"""
