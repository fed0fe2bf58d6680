"""Grading a folder of submissions: each judged from outside its process, and one row of a table for each.

    grade.py         the command: python -m lectures.grade; one row: look, judge
    command.py       its options and its course, from the folder to the table
    layouts.py       who handed in what, on each platform; metadata.py: Gradescope's; roster.py: the list of the course
    handed_in.py     the files of one person, bounded, from folders and zips; notebooks.py: their Python
    submissions.py   which of these files is the answer
    sandbox.py       judges, and what comes of a check (the grader's side); judge.py: the process that judges
    gradebook.py     rows, the CSV file, and the summary of misconceptions
    journal.py       finished rows, on the disk at once; stopping.py, scratch.py: an end in order, and nothing left behind
    handback.py      a page per student, the class in one page, Gradescope's results.json

What holds a student's code, and what does not: docs/security.md.
"""
