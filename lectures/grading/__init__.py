"""Grading a folder of submissions: each in a process of its own, with limits and guards, and one row of a table for each.

    grade.py         the command: python -m lectures.grade; one row: look, judge
    command.py       its options and its course, from the folder to the table
    layouts.py       who handed in what, on each platform; metadata.py: Gradescope's; roster.py: the list of the course
    handed_in.py     the files of one person, bounded, from folders and zips; notebooks.py: their Python
    submissions.py   which of these files is the answer
    sandbox.py       one check in a process that cannot outlive its deadline (the grader's side)
    guard.py         limits and audit hooks, in place before the student's code is (the other side)
    gradebook.py     rows, the CSV file, and the summary of misconceptions
    journal.py       finished rows, on the disk at once; stopping.py, scratch.py: an end in order, and nothing left behind
    handback.py      a page per student, the class in one page, Gradescope's results.json

The guards stop accidents and pranks, not a determined attacker: see docs/instructors.md.
"""
