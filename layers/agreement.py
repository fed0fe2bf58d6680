"""layers/verify/agreement.py under its short name."""

import sys

from .verify import agreement

sys.modules[__name__] = agreement
