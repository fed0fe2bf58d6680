"""The data files that minigrad ships, and what each must look like.

Installed as `minigrad.datasets`; in a checkout this is the folder `datasets/` beside `minigrad/`. Never import it under
the bare name `datasets`: that name belongs to another package. Each data set has a datasheet (``NAME.md``) here.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable

BYTES = {"digits.csv.gz": 57_523}
SHA256 = {"digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"}


def path(name: str) -> Traversable:
    """Where the file called `name` lies; it need not exist, so that the caller can say what is missing.

    Args:
        name: a file name in this package, such as ``"digits.csv.gz"``.

    Returns:
        A `pathlib.Path`, or for a package inside a zip file an object with the same reading methods.
    """
    return files(__name__).joinpath(name)
