"""`python -m lectures.grade`, wherever the tool lives: lectures/grading/grade.py, which is this module, too."""

import sys

from minigrad.command import run_command

from .grading import grade

if __name__ == "__main__":
    run_command(grade.main)
sys.modules[__name__] = grade
