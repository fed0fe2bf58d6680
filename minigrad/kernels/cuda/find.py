"""CuPy and a GPU, or an error that says which of them is missing and what to install."""

from __future__ import annotations

import importlib
from types import ModuleType

from ...core.errors import BackendError, error


def import_cupy() -> ModuleType:
    """CuPy, where there is a GPU that it can use."""
    needs = "CuPy 14, an NVIDIA driver and a GPU"
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as e:
        raise error(BackendError, "use('cupy')", got=f"an import error: {e}", needs=needs,
                    fix="pip install 'cupy-cuda13x[ctk]>=14' (or cupy-cuda12x for a CUDA 12 driver; never both)") from e
    if not cupy.cuda.is_available():
        driver, extra = (version() // 1000 for version in (cupy.cuda.runtime.driverGetVersion, cupy.cuda.runtime.runtimeGetVersion))  # 13000 -> 13
        fix = ("install the driver, then check nvidia-smi" if not driver else "check nvidia-smi: a GPU must be visible to this process" if driver >= extra
               else f"pip uninstall cupy-cuda{extra}x, then pip install 'cupy-cuda{driver}x[ctk]>=14'; or install a newer driver")
        raise error(BackendError, "use('cupy')", needs=needs, fix=f"{fix}; or stay with use('numpy')", got=f"CuPy {cupy.__version__} for CUDA {extra}, "
                    + (f"a driver for CUDA {driver}" if driver else "no NVIDIA driver") + " and no usable GPU")
    return cupy
