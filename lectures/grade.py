"""`python -m lectures.grade`, wherever the tool lives: lectures/grading/grade.py, which is this module, too."""

import sys

from .grading import grade

if __name__ == "__main__":
    sys.exit(grade.main())
sys.modules[__name__] = grade
