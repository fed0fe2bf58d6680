"""`python -m layers.report`, wherever the report lives: layers/verify/report.py, which is this module, too."""

import sys

from minigrad.command import run_command

from .verify import report

if __name__ == "__main__":
    run_command(report.main)
sys.modules[__name__] = report
