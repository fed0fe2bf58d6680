"""Grading a folder of submissions: each in a process of its own, with limits and guards, and one row of a table for each.

    grade.py         the command: python -m lectures.grade
    submissions.py   which files were handed in, under which layout
    sandbox.py       one check in a process that cannot outlive its deadline (the grader's side)
    guard.py         limits and audit hooks, in place before the student's code is (the other side)
    gradebook.py     rows, the CSV file, and the summary of misconceptions

The guards stop accidents and pranks, not a determined attacker: see docs/instructors.md.
"""
