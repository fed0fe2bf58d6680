"""The programs: python -m scripts.train, scripts.compare, scripts.demo."""

import sys
from typing import Any


def _interrupted_while_loading(kind: type[BaseException], value: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, value, trace)


if sys.argv[:1] == ["-m"]:  # Python is about to run one of them: what follows is a second of imports, which Ctrl-C may meet
    sys.excepthook = _interrupted_while_loading
