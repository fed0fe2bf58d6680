"""The catalogue of mistakes: each raises an error that names the op, what it got, what it needs and the usual fix.

The texts are compared with tests/snapshots/errors.txt. After a deliberate change of a text, rewrite the file with
``python -m tests.test_errors`` and read the difference.
"""

import copy
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg

SNAPSHOT = Path(__file__).parent / "snapshots" / "errors.txt"
CATALOGUE = {}


def mistake(kind):
    """Register a function that makes one mistake and must raise `kind`."""
    def add(f):
        CATALOGUE[f.__name__.replace("_", " ")] = (f, kind)
        return f
    return add


def var(*shape, dtype="float32"):
    return mg.tensor(np.arange(1, 1 + int(np.prod(shape)), dtype=dtype).reshape(shape), requires_grad=True)


@mistake(ValueError)
def shapes_that_do_not_broadcast():
    var(2, 3) + var(4)


@mistake(AttributeError)
def a_layer_of_another_package():
    mg.BatchNorm2d(3)


@mistake(AttributeError)
def a_name_of_pytorch():
    mg.cat([var(2), var(2)])


@mistake(AttributeError)
def a_name_that_numpy_has_as_a_function():
    mg.shape(var(2))


@mistake(ValueError)
def a_dtype_in_the_place_of_a_size():
    mg.zeros((2, 3), "float32")


@mistake(ValueError)
def a_number_that_the_dtype_does_not_have():
    mg.full((2,), 300, dtype="int8")


@mistake(TypeError)
def random_integers_by_rand():
    mg.rand(2, 3, dtype="int64")


@mistake(ValueError)
def random_integers_from_an_empty_range():
    mg.randint(3, 3)


@mistake(ValueError)
def arange_with_step_0():
    mg.arange(0, 1, 0)


@mistake(ValueError)
def repeats_that_are_no_integers():
    mg.repeat(var(3), 1.5)


@mistake(ValueError)
def repeats_for_other_elements():
    mg.repeat(var(3), [1, 2])


@mistake(ValueError)
def tile_by_a_negative_number():
    mg.tile(var(3), (2, -1))


@mistake(ValueError)
def roll_with_more_shifts_than_axes():
    mg.roll(var(2, 3), (1, 2), 0)


@mistake(ValueError)
def tensordot_over_axes_of_unequal_size():
    mg.tensordot(var(2, 3), var(2, 3), 1)


@mistake(ValueError)
def diag_of_a_batch():
    mg.diag(var(2, 2, 2))


@mistake(ValueError)
def inner_sizes_of_a_matrix_product():
    var(2, 3) @ var(2, 3)


@mistake(TypeError)
def two_floating_dtypes():
    var(2) * var(2, dtype="float64")


@mistake(TypeError)
def a_raw_array_of_another_float_dtype():
    var(2) * np.ones(2)


@mistake(TypeError)
def a_list_where_an_array_is_needed():
    mg.exp([1.0, 2.0])


@mistake(TypeError)
def a_list_beside_a_tensor():
    mg.add(var(2), [1.0, 2.0])


@mistake(TypeError)
def a_string_beside_a_tensor():
    var(2) * "2"


@mistake(mg.TapeError)
def item_assignment_on_a_taped_result():
    y = var(3) * 2.0
    y[0] = 1.0


@mistake(mg.TapeError)
def item_assignment_on_a_variable():
    var(3)[0] = 1.0


@mistake(mg.TapeError)
def a_variable_overwritten_before_backward():
    x = var(3)
    y = (x * x).sum()
    with mg.no_grad():
        x[0] = 5.0
    try:
        y.backward()
    except mg.TapeError as e:
        raise mg.TapeError(str(e).replace(str(y._line.parents[0].index), "N")) from None


@mistake(mg.TapeError)
def data_of_a_taped_result_assigned():
    y = var(3) * 2.0
    y.data = np.zeros(3, "float32")


@mistake(ValueError)
def data_of_another_shape_assigned():
    x = var(3)
    x.data = np.zeros(4, "float32")


@mistake(ValueError)
def truth_of_many_elements():
    if var(3) > 1.0:
        pass


@mistake(ValueError)
def item_of_many_elements():
    var(3).item()


@mistake(ValueError)
def backward_on_many_elements_without_a_cotangent():
    (var(3) * 2.0).backward()


@mistake(mg.TapeError)
def a_second_backward():
    y = (var(3) * var(3)).sum()
    y.backward()
    try:
        y.backward()
    except mg.TapeError as e:
        raise mg.TapeError(str(e).replace(str(y._line.index), "N")) from None


@mistake(mg.TapeError)
def backward_on_a_constant():
    mg.tensor(1.0).backward()


@mistake(mg.TapeError)
def backward_on_a_result_of_no_grad():
    with mg.no_grad():
        y = var(3).sum()
    y.backward()


@mistake(TypeError)
def a_raw_array_as_cotangent():
    (var(3) * 2.0).backward(np.ones(3, "float32"))


@mistake(ValueError)
def a_cotangent_of_the_wrong_shape():
    (var(3) * 2.0).backward(mg.tensor([1.0, 2.0]))


@mistake(ValueError)
def a_cotangent_of_the_wrong_dtype():
    (var(3) * 2.0).backward(mg.tensor(np.ones(3)))


@mistake(mg.TapeError)
def gradient_of_an_unused_input():
    mg.grad(var(3).sum(), [var(2)])


@mistake(mg.TapeError)
def gradient_with_respect_to_a_constant():
    mg.grad(var(3).sum(), [mg.tensor([1.0])])


@mistake(ValueError)
def outputs_and_cotangents_that_do_not_match():
    x = var(3)
    mg.grad([x.sum(), x.sum()], [x], [mg.tensor(1.0)])


@mistake(TypeError)
def an_integer_variable():
    mg.tensor([1, 2, 3], requires_grad=True)


@mistake(TypeError)
def a_gradient_that_is_no_tensor():
    var(3).grad = np.zeros(3)


@mistake(ValueError)
def a_gradient_of_another_shape():
    var(3).grad = mg.tensor([1.0])


@mistake(mg.AxisError)
def an_axis_out_of_range():
    var(2, 3).sum(axis=2)


@mistake(mg.AxisError)
def an_axis_named_twice():
    mg.mean(var(2, 3), (0, -2))


@mistake(TypeError)
def an_axis_that_is_no_integer():
    mg.sum(var(2, 3), 0.5)


@mistake(ValueError)
def a_reshape_that_loses_elements():
    var(2, 3).reshape(4, 2)


@mistake(ValueError)
def squeezing_an_axis_of_several_elements():
    mg.squeeze(var(2, 3), 0)


@mistake(ValueError)
def a_maximum_of_nothing():
    mg.max(mg.tensor(np.zeros((0, 3), "float32")), axis=0)


@mistake(IndexError)
def an_index_out_of_range():
    var(3)[7]


@mistake(TypeError)
def a_floating_index():
    var(3)[mg.tensor([0.0, 1.0])]


@mistake(TypeError)
def numpy_function_of_a_tensor():
    np.sum(var(3))


@mistake(TypeError)
def implicit_conversion_to_numpy():
    np.asarray(var(3))


@mistake(TypeError)
def numpy_array_of_another_dtype_on_the_left():
    np.ones(3) * var(3)


@mistake(mg.TapeError)
def a_rule_with_a_gradient_of_the_wrong_shape():
    @mg.primitive(a=lambda g, b: g * b, b=lambda g, a: g * a)
    def product(xp, a, b):
        return xp.multiply(a, b)
    product(var(2, 3), var(3)).backward(var(2, 3))


@mistake(mg.TapeError)
def a_rule_with_a_gradient_of_the_wrong_dtype():
    @mg.primitive(a=lambda g: g.astype("float64"))
    def same(xp, a):
        return a + 0
    same(var(3)).backward(var(3))


@mistake(mg.TapeError)
def a_rule_that_returns_a_number():
    @mg.primitive(a=lambda g: 0.0)
    def nothing(xp, a):
        return a + 0
    nothing(var(3)).backward(var(3))


@mistake(TypeError)
def a_rule_for_an_input_that_is_not_there():
    @mg.primitive(x=lambda g: g)
    def same(xp, a):
        return a


@mistake(TypeError)
def a_rule_that_asks_for_something_unknown():
    @mg.primitive(a=lambda g, output: g * output)
    def same(xp, a):
        return a
    same(var(3))


@mistake(mg.TapeError)
def a_joint_backward_with_too_few_gradients():
    @mg.by_hand(save=lambda a: (), backward=lambda g, saved, a: (g,))
    def product(xp, a, b):
        return a * b
    product(var(3), var(3)).backward(var(3))


@mistake(TypeError)
def too_few_inputs_of_an_op():
    mg.maximum.primitive and mg.where(var(3) > 0.0, var(3))


@mistake(TypeError)
def an_unknown_keyword_of_an_op():
    @mg.primitive(a=lambda g: g)
    def same(xp, a, *, scale=1.0):
        return a
    same(var(3), factor=2.0)


@mistake(mg.TapeError)
def a_variable_as_a_keyword():
    @mg.by_hand(save=lambda a: (), backward=lambda g, saved, *, shift: (g,))
    def moved(xp, a, *, shift):
        return a + shift
    moved(var(3), shift=var(3))


@mistake(TypeError)
def with_saved_of_an_ordinary_op():
    mg.with_saved(mg.exp, var(3))


@mistake(mg.TapeError)
def retain_grad_of_a_constant():
    mg.tensor([1.0]).retain_grad()


@mistake(TypeError)
def a_hook_that_returns_an_array():
    x = var(3)
    x.register_hook(lambda g: g.numpy())
    (x * 2.0).backward(var(3))


@mistake(mg.TapeError)
def deepcopy_of_a_taped_result():
    copy.deepcopy(var(3) * 2.0)


@mistake(TypeError)
def pickling_a_tensor():
    pickle.dumps(mg.tensor([1.0]))


@mistake(ValueError)
def nested_lists_of_unequal_lengths():
    mg.tensor([[1.0, 2.0], [3.0]])


@mistake(TypeError)
def a_tensor_of_text():
    mg.tensor(["a", "b"])


@mistake(TypeError)
def a_tensor_of_tensors():
    mg.tensor([var(2), var(2)])


@mistake(mg.BackendError)
def an_unknown_backend():
    try:
        mg.use("nonsense")
    except mg.BackendError as e:
        raise mg.BackendError(str(e).replace("'fake', ", "")) from None


@mistake(ValueError)
def zero_threads():
    mg.set_num_threads(0)


@mistake(ValueError)
def a_convolution_with_the_wrong_number_of_channels():
    mg.conv2d(var(1, 3, 8, 8), var(4, 2, 3, 3))


@mistake(ValueError)
def a_kernel_larger_than_the_image():
    mg.conv2d(var(1, 1, 2, 2), var(1, 1, 5, 5))


@mistake(ValueError)
def an_image_without_a_batch_axis():
    mg.max_pool2d(var(3, 8, 8), 2)


@mistake(ValueError)
def a_label_out_of_range():
    mg.cross_entropy(var(2, 3), mg.tensor([0, 3]))


@mistake(TypeError)
def labels_that_are_floats():
    mg.nll_loss(mg.log_softmax(var(2, 3)), mg.tensor([0.0, 1.0]))


@mistake(ValueError)
def a_target_that_would_broadcast():
    mg.mse_loss(var(3), mg.tensor([[1.0], [2.0], [3.0]]))


@mistake(ValueError)
def an_unknown_reduction():
    mg.mse_loss(var(3), var(3), reduction="avg")


@mistake(NotImplementedError)
def an_argument_that_minigrad_leaves_out():
    mg.nn.Embedding(10, 4, sparse=True)


@mistake(NotImplementedError)
def an_outdated_argument_of_a_loss():
    mg.mse_loss(var(3), var(3), False)


@mistake(TypeError)
def an_op_in_place():
    mg.relu(var(3), inplace=True)


@mistake(TypeError)
def an_argument_for_an_activation_without_any():
    mg.nn.Sigmoid(inplace=True)


@mistake(ValueError)
def class_weights_of_another_length():
    mg.cross_entropy(var(2, 3), mg.tensor([0, 1]), mg.tensor([1.0, 2.0]))


@mistake(ValueError)
def an_ignored_label_beside_probabilities():
    mg.cross_entropy(var(2, 3), var(2, 3), ignore_index=0)


@mistake(ValueError)
def a_mirror_border_larger_than_the_image():
    mg.pad(var(3), 3, mode="reflect")


@mistake(ValueError)
def a_mode_of_padding_in_the_place_of_the_constant():
    mg.pad(var(3), 3, "reflect")


@mistake(ValueError)
def an_unknown_padding_mode_of_a_convolution():
    mg.nn.Conv2d(1, 1, 3, padding=1, padding_mode="same")


@mistake(ValueError)
def a_padding_row_outside_the_table():
    mg.nn.Embedding(10, 4, padding_idx=10)


@mistake(TypeError)
def integer_images_in_a_convolution():
    mg.conv2d(mg.tensor(np.zeros((1, 3, 8, 8), "uint8")), var(4, 3, 3, 3))


@mistake(TypeError)
def integers_in_a_linear_layer():
    mg.nn.Linear(3, 2, dtype="float64")(mg.tensor([[1, 2, 3]]))


@mistake(TypeError)
def integers_in_a_normalization():
    import layers
    layers.BatchNorm2d(3)(mg.tensor(np.zeros((2, 3, 4, 4), "uint8")))


@mistake(TypeError)
def a_difference_of_booleans():
    mg.tensor([True, False]) - mg.tensor([True, True])


@mistake(TypeError)
def an_argmax_over_two_axes():
    mg.argmax(var(2, 3), axis=(0, 1))


@mistake(TypeError)
def a_slope_that_is_an_array():
    mg.leaky_relu(var(3), np.array(0.1))


@mistake(TypeError)
def a_cast_to_complex_numbers():
    var(3).astype("complex64")


@mistake(ValueError)
def a_pad_width_that_is_no_integer():
    mg.pad(var(3), 1.5)


@mistake(ValueError)
def an_empty_kernel():
    mg.conv2d(var(1, 1, 2, 2), var(1, 1, 0, 1))


@mistake(ValueError)
def leaky_relu_with_a_negative_slope():
    mg.leaky_relu(var(3), -0.1)


@mistake(mg.NonFiniteError)
def the_first_nan_in_debug_mode():
    x = var(3)
    with np.errstate(all="ignore"), mg.debug():
        try:
            mg.log(-x)
        except mg.NonFiniteError as e:
            raise mg.NonFiniteError(_stable(str(e))) from None


@mistake(AttributeError)
def a_normalization_layer_looked_for_in_nn():
    mg.nn.BatchNorm2d(3)


def _stable(text):
    import re
    return re.sub(r"tape line \d+", "tape line N", re.sub(r"recorded at .*?(\w+\.py):\d+", r"recorded at \1:N", text))


def text_of(name):
    f, kind = CATALOGUE[name]
    try:
        f()
    except kind as e:
        return f"{type(e).__name__}: {e}"
    raise AssertionError(f"{name!r} raised nothing")


def all_texts():
    return "\n\n".join(f"## {name}\n{text_of(name)}" for name in CATALOGUE) + "\n"


def snapshot():
    parts = SNAPSHOT.read_text(encoding="utf-8").strip().split("## ")[1:]
    return {name: body.strip() for name, body in (p.split("\n", 1) for p in parts)}


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_error_is_the_documented_one(name):
    assert text_of(name) == snapshot()[name]


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_error_says_what_it_got_what_it_needs_and_the_fix(name):
    text = text_of(name)
    assert ": got " in text and "\n  needs: " in text and "\n  fix:   " in text


def test_the_catalogue_is_long_and_has_no_stale_entries():
    assert len(CATALOGUE) >= 50 and set(snapshot()) == set(CATALOGUE)


def test_arrays_of_two_backends_do_not_meet(xp, backend):
    if backend == "numpy":
        pytest.skip("needs a device backend")
    host = mg.tensor(np.ones(3, "float32"), requires_grad=True, backend="numpy")
    device = mg.tensor(np.ones(3, "float32"), requires_grad=True, backend=backend)
    for meet in (lambda: host + device, lambda: device * host, lambda: device * np.ones(3, "float32"), lambda: np.ones(3, "float32") * device,
                 lambda: mg.concatenate([device, host])):
        with pytest.raises(mg.BackendError, match=r"(?s)backends .*numpy.*fix:   move one of them"):
            meet()


if __name__ == "__main__":
    SNAPSHOT.write_text(all_texts(), encoding="utf-8")
    sys.stdout.write(all_texts())


def test_a_forgotten_keyword_is_named():
    import layers
    x, g = var(4, 3), var(3)
    with pytest.raises(TypeError, match=r"batch_norm: got no eps\n  needs: the keywords \['eps'\]\n  fix:   batch_norm\(\.\.\., eps=\.\.\.\)"):
        layers.batch_norm(x, g, g)
    layers.batch_norm(x, g, g, eps=1e-5)  # the advice


@pytest.mark.parametrize("op, value", [(mg.exp, 1000.0), (mg.log, 0.0), (lambda x: 1.0 / x, 0.0)])
def test_numpys_errstate_raises_its_own_error_with_the_ops_name(op, value):
    x = mg.tensor([value], requires_grad=True)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="errstate"):
        op(x)
