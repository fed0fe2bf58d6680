"""CUDA kernels for arrays of CuPy: the hot patterns in as few passes over memory as they need.

    normalize.cu   moments, paired sums, combine, as in kernels/normalize.py      normalize.py  plans and launches them
    rows.cu        layer norm and RMS norm of whole rows, forward and backward    rows.py
    training.cu    leaky ReLU, its backward, SGD, Adam                            training.py
    common.cu      helpers, put before each of them                               launch.py: compiles and launches

Which layer uses which kernel, in its default form:

    layer                                                                   forward                   backward
    batch_norm batch_renorm inplace_abn                                     moments_parts combine     paired_parts column_parts combine
    batch_norm_eval                                                         combine                   paired_parts column_parts
    group_norm instance_norm centered_weight_norm weight_standardization    moments_parts combine     paired_parts combine
    weight_norm                                                             paired_parts combine      paired_parts combine
    grn                                                                     combine                   paired_parts combine
    layer_norm rms_norm                                                     rows_forward              rows_backward
    decorrelated_batch_norm pca_whitening iter_norm whiten_eval             -                         -
    orthogonal_weight_norm spectral_norm orthonormality_penalty             -                         -

The last two rows are products of matrices and eigendecompositions, for which CuPy has libraries. Where a channel is cut into parts,
moments_merge follows moments_parts. Layer norm of rows too long for rows_forward goes the way of group norm, with column_parts for its
parameters. The op `leaky_relu` (and `relu`) is leaky_forward and gate; SGD and Adam are sgd and adam.

Each function of the Python files returns None where its kernel does not apply (another dtype, an odd layout, no elements),
and the caller goes on with array operations. CuPy compiles a source when it is first needed, with NVRTC, and keeps the
result on disk. Nothing here waits for the device, and everything runs on CuPy's current stream.
"""
