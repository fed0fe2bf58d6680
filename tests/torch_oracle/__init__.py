"""minigrad against PyTorch on the samples of PyTorch's own operator, module and optimizer tests.

    make torch-oracle                                   # installs PyTorch and expecttest, and runs everything here
    pytest -m torch_oracle tests/torch_oracle -k conv2d # one op

The samples are made at run time by `torch.testing._internal` (`op_db`, `module_db`, `optim_db`); nothing of them is stored here.

    counterparts.py     PyTorch's op -> how minigrad computes the same, or why it has no counterpart
    agreements.py       every place where the two may differ, with a sentence why
    differential.py     runs a sample in both, in both orders, and judges the differences
    modules.py          the same for layers, losses and optimizers
    test_*.py           one test for each op and dtype; the summary says how many samples were compared
"""
