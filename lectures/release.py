"""`python -m lectures.release`, wherever the tool lives: lectures/tools/release.py, which is this module, too."""

import sys

from .tools import release

if __name__ == "__main__":
    sys.exit(release.main())
sys.modules[__name__] = release
