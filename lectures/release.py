"""`python -m lectures.release`, wherever the tool lives: lectures/tools/release.py, which is this module, too."""

import sys

from minigrad.command import run_command

from .tools import release

if __name__ == "__main__":
    run_command(release.main)
sys.modules[__name__] = release
