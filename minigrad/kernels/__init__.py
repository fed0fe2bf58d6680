"""The few hot patterns, as plain functions on arrays.

Nothing here knows about Tensors or tapes: each function takes the array namespace ``xp`` (NumPy, CuPy, or the tests'
stand-in for CuPy), arrays and keywords, and returns new arrays. ``ops/`` wraps them as primitives and says how they
are differentiated; here you find only how they are computed, and why that way.
"""
