"""The engine. Its files, in the order in which to read them; each uses only those above it:

    errors.py        what an error says: what it got, what it needs, the fix
    backend.py       the only file (with kernels/) that knows NumPy and CuPy
    ownership.py     is this array nobody else's?
    storage.py       who wrote into which buffer, and when
    state.py         what each thread has for itself: recording or no_grad, watchers
    tensor.py        a value and the tape line that made it
    donation.py      an op that may overwrite its input's memory
    plan.py          what a tape line of an op keeps
    inputs.py        what an op takes, and what it says of the rest
    calls.py         calling an op: the general way, and the shorter ones
    primitive.py     an op beside its rules: the decorator
    by_hand.py       ops with one backward for all inputs, derived by hand
                     (here ../ops/: every op beside its derivative, a page of calculus each)
    engine.py        backward, grad: the tape walked back, and freed
"""
