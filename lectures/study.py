"""`python -m lectures.study`, wherever the tool lives: lectures/tools/study.py, which is this module, too."""

import sys

from minigrad.command import run_command

from .tools import study

if __name__ == "__main__":
    run_command(study.main)
sys.modules[__name__] = study
