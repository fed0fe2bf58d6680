"""A CPU stand-in for CuPy, stricter than CuPy, for tests on machines without a GPU. See `fakecupy.FakeCupy`."""

from .cuda import CompileRequest, NoDeviceCode
from .fakecupy import Counter, FakeArray, FakeCupy, HostSync, ImplicitTransfer

__all__ = ["CompileRequest", "Counter", "FakeArray", "FakeCupy", "HostSync", "ImplicitTransfer", "NoDeviceCode"]
