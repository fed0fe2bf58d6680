"""What the five documents print: every numbered equation, table, figure and empirical claim, and where code and tests of it live.

`homes` adds what need not be written here: the entries of the ledger, and the steps of the lectures that cite an item.
"""

from __future__ import annotations

from dataclasses import dataclass

EQUATION, TABLE, FIGURE, CLAIM = "equation", "table", "figure", "claim"


@dataclass(frozen=True)
class PrintedItem:
    """Something that a document prints.

    Args:
        document: its short name.
        name: as it is cited: "(7)", "table A", or a few words in quotes.
        kind: equation, table, figure, or claim.
        says: in a line, where the ledger does not say it.
        entries: names of ledger entries that belong to it, beside those that begin with `name`.
        code: "file: function" of this repository.
        tests: "file: function" of tests that are about it; every entry of the ledger is also measured by `tests/test_equations.py`.
        experiments: which of them measure it.
        nowhere: why it has no home, where that is a fact about the item.
    """

    document: str
    name: str
    kind: str
    says: str = ""
    entries: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    nowhere: str = ""


# -- dbn ----------------------------------------------------------------------------------------------------------------

_ZCA = "layers/whitening/decorrelated_batch_norm.py: "
_WHITENING = "tests/test_layers_whitening.py: "
_STAGED, _SIMPLE, _STABLE = (f"{_ZCA}{kind}_backward" for kind in ("staged", "simplified", "stable"))
_FORMS = (f"{_WHITENING}test_forms_that_divide_by_gaps_fail_where_eigenvalues_meet", "tests/test_layers.py: test_derived_equals_composed")


def _dbn(name: str, kind: str = EQUATION, says: str = "", **homes: tuple[str, ...]) -> PrintedItem:
    return PrintedItem("dbn", name, kind, says, **homes)


DBN = (
    *(_dbn(f"({k})", code=(f"{_ZCA}composed_through_eigh", f"{_ZCA}composed"), tests=(f"{_WHITENING}test_the_covariance_of_the_output",))
      for k in range(1, 7)),
    *(_dbn(f"({k})", code=(_STAGED,), tests=_FORMS, entries=("(8)-(13) in turn",) if k == 13 else ()) for k in range(7, 14)),
    _dbn("(14)", code=(_SIMPLE, _STABLE), tests=(*_FORMS, f"{_WHITENING}test_without_eigenvectors_every_batch_is_as_good_as_any_other")),
    *(_dbn(f"({k})", code=(_SIMPLE,), tests=_FORMS, entries=("below (18)",) if k == 18 else ()) for k in range(15, 21)),
    _dbn("PCA whitening", CLAIM, "PCA whitening hardly works for deep networks", experiments=("dbn_pca",),
         code=("layers/whitening/pca_whitening.py: composed",), tests=("tests/test_pca_whitening.py: test_the_gradient_grows_as_the_gap_closes",)),
    _dbn("section 2", EQUATION, "the operations of a convolution and of DBN with groups of K, and their quotient", experiments=("dbn_cost",),
         code=tuple(f"layers/whitening/cost.py: {f}" for f in ("convolution", "whitening", "relative_overhead")),
         tests=("tests/test_whitening_cost.py: test_the_overhead_is_the_quotient_of_the_costs",)),
    _dbn("negligible overhead", CLAIM, "the relative overhead is negligible when K is small, 16 for example", experiments=("dbn_cost",)),
    _dbn("71 ms against 32 ms", CLAIM, "full whitening of 64×32×32 inputs in batches of 64, against a 3×3 convolution of the same input",
         experiments=("dbn_cost",)),
    _dbn("table A", TABLE, "seconds per epoch of VGG-A, training and inference, by group size", experiments=("dbn_table_a",),
         tests=("tests/test_models.py: test_dbn_of_table_a_has_no_scale_and_a_batch_norm_in_the_classifier",)),
    _dbn("table B", TABLE, "seconds per epoch of residual and wide residual networks, training and inference", experiments=("dbn_table_b",),
         tests=("tests/test_models.py: test_whitening_replaces_only_the_first_norm_of_residual_networks",)),
    _dbn("small groups cost more", CLAIM, "small groups can cost more than larger ones, because the groups are whitened one after the other",
         experiments=("dbn_table_a",)),
    PrintedItem("dbn", "GPU utilization", CLAIM, "20 to 40 % with DBN, 95 % and more with BN", nowhere="a property of the authors' program on their GPU"),
)

# -- bn-lecture ---------------------------------------------------------------------------------------------------------

_BN = "layers/batch/batch_norm.py: "
_SLIDE = {"code": (f"{_BN}staged_backward",), "tests": ("tests/test_layers.py: test_derived_equals_composed",)}
_FORWARD = {"code": (f"{_BN}composed", f"{_BN}statistics"), "tests": ("tests/test_layers.py: test_derived_equals_composed",)}


def _slide(name: str, kind: str = EQUATION, says: str = "", **homes: tuple[str, ...]) -> PrintedItem:
    return PrintedItem("bn-lecture", name, kind, says, **homes)


LECTURE = (
    _slide("Internal Covariate Shift", CLAIM, "the distribution of a layer's inputs changes while the layers before it learn; whitening the inputs is the cure",
           experiments=("bn_benefits",)),
    _slide("Benefits, 1", CLAIM, "faster training: a higher learning rate can be afforded", experiments=("bn_benefits",)),
    _slide("Benefits, 2", CLAIM, "less sensitive to careful initialization", experiments=("bn_benefits",)),
    _slide("Benefits, 3", CLAIM, "some extent of regularization", experiments=("bn_benefits",)),
    _slide("Benefits, 4", CLAIM, "less prone to saturated modes", experiments=("bn_benefits",)),
    _slide("Two Simplifications, 1", **_FORWARD),
    _slide("Two Simplifications, 2", CLAIM, "mean and variance are estimated from the mini-batch", **_FORWARD),
    _slide("Another detail", **_FORWARD),
    _slide("Forward Pass", **_FORWARD),
    *(_slide(f"∂l/∂{z}", **_SLIDE) for z in ("γ", "β", "x̂", "σ²", "μ")),
    _slide("∂l/∂x", code=(f"{_BN}staged_backward", f"{_BN}one_line_backward"), tests=_SLIDE["tests"]),
    _slide("A formula for designing new layers", CLAIM, "invent an operation, design its forward pass, derive its backward, optimize it",
           code=("lectures/design.py: designed", "minigrad/derivation/judge.py: check", "layers/registry.py: register"),
           tests=("tests/test_homework.py: test_an_invented_layer_goes_all_the_way",)),
)

# -- bn-jacobian --------------------------------------------------------------------------------------------------------

_J = "layers/gradients/jacobian.py: "
_JACOBIAN = "tests/test_jacobian.py: "


def _jacobian(name: str, kind: str = EQUATION, says: str = "", **homes: tuple[str, ...]) -> PrintedItem:
    return PrintedItem("bn-jacobian", name, kind, says, **homes)


JACOBIAN = (
    *(_jacobian(f"({k})", code=(f"{_J}batch_norm_jacobian",), entries=("(1), (2)",) if k < 3 else (),
                tests=(f"{_JACOBIAN}test_equations_1_to_4_the_jacobian_of_a_batch_is_block_diagonal_by_channel",)) for k in range(1, 5)),
    _jacobian("(5)", code=(f"{_J}batch_norm_u",), tests=(f"{_JACOBIAN}test_equations_5_to_8_and_10_for_any_data",)),
    _jacobian("(6)", code=(f"{_J}batch_norm_jacobian",), tests=(f"{_JACOBIAN}test_equations_5_to_8_and_10_for_any_data",)),
    *(_jacobian(f"({k})", code=(f"{_J}batch_norm_u",), tests=(f"{_JACOBIAN}test_equations_5_to_8_and_10_for_any_data",)) for k in (7, 8)),
    _jacobian("(9)", code=(f"{_J}batch_norm_spectrum",), tests=(f"{_JACOBIAN}test_spectrum_is_0_then_eps_over_var_plus_eps_then_1",)),
    _jacobian("(10)", code=(f"{_J}batch_norm_u",), tests=(f"{_JACOBIAN}test_equations_5_to_8_and_10_for_any_data",)),
    _jacobian("below (10)", CLAIM, "U² ≈ mU, so λ₁ ≈ λ₂ ≈ m, for Gaussian x̂ and large batches", code=(f"{_J}batch_norm_spectrum",),
              tests=(f"{_JACOBIAN}test_the_papers_approximation_is_exact_for_two_samples_of_anything",
                     f"{_JACOBIAN}test_two_null_vectors_if_and_only_if_eps_is_zero"),
              experiments=("jacobian_batch_size",)),
    _jacobian("title", CLAIM, "orthonormality and modulation train extremely deep networks", code=(
        "layers/gradients/init.py: orthonormal_init", "layers/gradients/orthonormality_penalty.py: backward", "layers/gradients/modulation.py: modulated"),
        tests=(f"{_JACOBIAN}test_modulation_keeps_gradients_from_vanishing",), experiments=("deep_plain",)),
)

# -- inplace-abn --------------------------------------------------------------------------------------------------------

_ABN = "layers/batch/inplace_abn.py: "
_ABN_TESTS = ("tests/test_layers.py: test_derived_equals_composed", "tests/test_inplace_abn.py: test_both_orders_are_right_where_the_input_was_overwritten")


def _inplace(name: str, kind: str = EQUATION, says: str = "", **homes: tuple[str, ...]) -> PrintedItem:
    return PrintedItem("inplace-abn", name, kind, says, **homes)


INPLACE = (
    _inplace("table 1", TABLE, "ResNeXt-101 with ReLU or leaky ReLU, exchanged between training and validation: top-1 and top-5",
             experiments=("iabn_table_1",)),
    _inplace("within a point", CLAIM, "exchanging the activation changes no accuracy by more than one point, except one", experiments=("iabn_table_1",)),
    *(_inplace(f"row {k}", code=(f"{_BN}staged_backward", f"{_ABN}form_1_backward"), tests=_ABN_TESTS) for k in range(1, 8)),
    *(_inplace(f"form II, ∂L/∂{z}", code=(f"{_ABN}form_2_backward",),
               tests=(*_ABN_TESTS, "tests/test_inplace_abn.py: test_form_2_loses_more_where_beta_is_large_against_gamma")) for z in ("γ", "x")),
)

# -- cwn ----------------------------------------------------------------------------------------------------------------

_C = "layers/weights/centered_weight_norm.py: "
_W = "tests/test_layers_weights.py: "


def _cwn(name: str, kind: str = EQUATION, says: str = "", **homes: tuple[str, ...]) -> PrintedItem:
    return PrintedItem("cwn", name, kind, says, **homes)


CWN = (
    _cwn("proposition 1", CLAIM, "E[z] = 0 and var(z) = σ² for a centred filter of length 1, if h is Gaussian with one mean and covariance σ²I",
         code=(f"{_C}composed",), experiments=("cwn_proposition_1",)),
    *(_cwn(f"({k})", code=(f"{_C}composed",), tests=(f"{_W}test_centered_weight_norm_is_blind_to_scale_and_shift",), experiments=("cwn_proposition_1",))
      for k in (1, 2)),
    _cwn("proposition 2", CLAIM, "the gradient of v sums to zero and is orthogonal to w", code=(f"{_C}backward",),
         tests=(f"{_W}test_centered_weight_norm_is_blind_to_scale_and_shift",)),
    _cwn("(3)", code=(f"{_C}backward",), tests=(f"{_W}test_centered_weight_norm_is_equation_3_as_printed",), entries=("sentence before (3)", "below (3)")),
    *(_cwn(f"({k})", code=(f"{_C}backward",), tests=(f"{_W}test_centered_weight_norm_is_blind_to_scale_and_shift",)) for k in (4, 5)),
    _cwn("figure 1", FIGURE, "GoogLeNet on CIFAR-10: training and test error of plain, WN and CWN", experiments=("cwn_figure_1",)),
    _cwn("5.64 %", CLAIM, "CWN has the lowest test error, 5.64 % against 6.00 % of plain and 6.01 % of WN", experiments=("cwn_figure_1",)),
    _cwn("marginal speedup", CLAIM, "CWN trains a little faster than plain and WN", experiments=("cwn_figure_1",)),
    PrintedItem("cwn", "conjecture", CLAIM, "centring regularizes the network and improves the conditioning of the optimization",
         nowhere="a conjecture about causes; cwn_figure_1 measures loss and error, which cannot tell them"),
    _cwn("figure 2", FIGURE, "VGG-A as trained", code=("models/vgg.py: VGG",), tests=(
        "tests/test_models.py: test_cwns_vgg_has_centred_filters_scales_biases_and_one_batch_norm",)),
    _cwn("figure 3", FIGURE, "GoogLeNet as trained", code=("models/googlenet.py: GoogLeNet",), tests=(
        "tests/test_models.py: test_numbers_of_parameters_are_the_published_ones",)),
    _cwn("figure 4", FIGURE, "the residual network of 56 layers", code=("models/resnet.py: ResNet",), tests=(
        "tests/test_models.py: test_numbers_of_parameters_are_the_published_ones",)),
)

ITEMS: tuple[PrintedItem, ...] = DBN + LECTURE + JACOBIAN + INPLACE + CWN
