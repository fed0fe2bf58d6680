"""CUDA kernels for arrays of CuPy: the hot patterns in as few passes over memory as they need.

    normalize.cu   moments, paired sums, combine, as in kernels/normalize.py      normalize.py  plans and launches them
    rows.cu        layer norm and RMS norm of whole rows, forward and backward    rows.py
    training.cu    leaky ReLU, its backward, SGD, Adam                            training.py
    common.cu      helpers that stand before each of them                         launch.py: compiles and launches

Each function of the Python files returns None where its kernel does not apply (another dtype, an odd layout, no elements),
and the caller goes on with array operations. CuPy compiles a source when it is first needed, with NVRTC, and keeps the
result on disk. Nothing here waits for the device, and everything runs on CuPy's current stream.
"""
