"""`python -m lectures.build`, wherever the tool lives: lectures/tools/build.py, which is this module, too."""

import sys

from minigrad.command import run_command

from .tools import build

if __name__ == "__main__":
    run_command(build.main)
sys.modules[__name__] = build
