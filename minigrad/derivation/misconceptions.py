"""What people get wrong, once: the codes of explanations, for reports, class summaries, the study of the checker, and docs/misconceptions.md.

Each has a line of a homework in which it happens; a test checks that the checker says so.
"""

from __future__ import annotations

from typing import NamedTuple


class Misconception(NamedTuple):
    """One kind of mistake."""

    code: str
    sentence: str       # what has happened
    hint: str           # what to think about
    task: str = ""      # an example: the homework,
    line: str = ""      # the line,
    body: str = ""      # what it returns,
    arguments: str = ""  # from what


BN, WN, LN, DBN, ABN = "02_batch_norm", "06_weight_norm", "07_layer_norm", "05_whitening", "03_inplace_abn"
FAMILIES: dict[str, tuple[Misconception, ...]] = {
    "Paths": (
        Misconception("missing path", "A way from the value to the result was left out.",
                      "List every place where the value is used, and follow each to the result.",
                      BN, "d_x", "d_xhat * rstd + d_mu / m", "d_xhat, d_mu, rstd, m"),
        Misconception("extra path", "A term was added that no way gives.", "Which use of the value does each term belong to?",
                      WN, "d_v_one_line",
                      "gain[:, None] / norm * (d_w - np.mean(d_w, axis=1, keepdims=True) - vhat * np.sum(d_w * vhat, axis=1, keepdims=True))",
                      "d_w, gain, norm, vhat"),
        Misconception("eval formula", "Statistics were held constant, as at inference.",
                      "In training the statistics are computed from the batch, so they depend on the input.",
                      BN, "d_x_one_line", "gamma * rstd * d_y", "d_y, gamma, rstd"),
        Misconception("other derivative", "It is the derivative with respect to another value.", "One step of the chain rule more, or one less.",
                      BN, "d_xhat", "d_y", "d_y"),
        Misconception("counted twice", "A path, or all of it, is there twice.", "Was something added that was in there already? Is a 1/2 missing?",
                      BN, "d_var", "-np.sum(d_xhat * xc, axis=0, keepdims=True) * (var + eps) ** -1.5", "d_xhat, xc, var, eps"),
        Misconception("wrong term", "One term is not what its path gives; the others are right.", "Derive this path again, on its own."),
    ),
    "Signs and numbers": (
        Misconception("sign", "A sign is wrong.", "Differentiate the inner function once more: 1/s and x - mu bring a minus.",
                      BN, "d_var", "np.sum(d_xhat * xc, axis=0, keepdims=True) * 0.5 * (var + eps) ** -1.5", "d_xhat, xc, var, eps"),
        Misconception("factor", "A constant factor is wrong.", "Powers bring their exponent down; two uses count twice.",
                      "04_orthonormality", "d_G", "d_penalty * G", "d_penalty, G"),
        Misconception("wrong power", "A power, a root or a square is wrong.", "Subtract 1 from the exponent, and count the factors of the chain rule.",
                      "07_rms_norm", "d_ms", "-0.5 * r * np.sum(d_xhat * x, axis=1, keepdims=True)", "d_xhat, x, r"),
        Misconception("hard-coded", "A number stands where a size or a keyword belongs.", "Try another shape: which numbers would change?",
                      BN, "d_x", "d_xhat * rstd + d_var * 2.0 * xc / 7 + d_mu / 7", "d_xhat, d_var, d_mu, rstd, xc"),
        Misconception("epsilon misplaced", "ε is missing, or outside of the root.", "ε is added to the variance, before the root.",
                      BN, "d_var", "np.sum(d_xhat * xc, axis=0, keepdims=True) * -0.5 * var ** -1.5", "d_xhat, xc, var"),
        Misconception("precedence", "Brackets are missing, or hold too much.", "** binds before * and /, these before + and -.",
                      BN, "d_var", "np.sum(d_xhat * xc, 0, keepdims=True) * -1/2 * (var + eps) ** -3/2", "d_xhat, xc, var, eps"),
    ),
    "Sums and means": (
        Misconception("sum for mean", "A sum stands where a mean belongs: it is as many times too large as there are elements.",
                      "A mean brings 1/m to each element.",
                      BN, "d_x_one_line", "gamma * rstd * (d_y - np.mean(d_y, axis=0) - xhat * np.sum(d_y * xhat, axis=0))", "d_y, gamma, rstd, xhat"),
        Misconception("mean for sum", "A mean stands where a sum belongs.", "What was broadcast has an adjoint that adds up.",
                      BN, "d_var", "np.mean(d_xhat * xc, axis=0, keepdims=True) * -0.5 * (var + eps) ** -1.5", "d_xhat, xc, var, eps"),
        Misconception("n - 1 for n", "The unbiased variance was meant, but the forward pass divides by m.",
                      "Normalization divides by m; only the running variance may be unbiased.",
                      BN, "d_x", "d_xhat * rstd + d_var * 2.0 * xc / (m - 1) + d_mu / m", "d_xhat, d_var, d_mu, rstd, xc, m"),
        Misconception("n for n - 1", "It divides by m where m - 1 is needed.", "This forward pass divides by m - 1."),
        Misconception("wrong count", "It is divided by another number of elements.", "Over how many elements was the mean taken?",
                      DBN, "d_xc", "D @ d_rotated + (d_sigma + d_sigma.T) @ xc / len(xc)", "d_rotated, d_sigma, D, xc"),
        Misconception("not reduced", "A sum over the axes along which the value was broadcast is missing.", "The adjoint has the shape of the value.",
                      BN, "d_beta", "d_y", "d_y"),
        Misconception("over-reduced", "A sum or a mean is too many.", "An element of the value changes its own element of the result only.",
                      BN, "d_xhat", "np.ones_like(d_y) * d_y.sum(0) * gamma", "d_y, gamma"),
        Misconception("wrong axis", "It is summed or averaged over another axis.", "Along which axis was the value shared?",
                      LN, "d_gamma", "np.sum(d_y * xhat, axis=1)", "d_y, xhat"),
        Misconception("keepdims", "An axis is lost, or kept.", "keepdims=True keeps the axis, so that it broadcasts."),
        Misconception("does not commute", "Something was taken out of a sum or a mean that varies inside of it, or the other way round.",
                      "Only what is constant along the axis may be moved.",
                      BN, "d_gamma", "d_y.sum(0) * xhat.sum(0)", "d_y, xhat"),
    ),
    "Operands": (
        Misconception("wrong operand", "Another name stands where one belongs.", "Which value of the forward pass does the rule read?",
                      BN, "d_gamma", "np.sum(d_y * x, axis=0)", "d_y, x"),
        Misconception("missing operand", "A factor is missing.", "The derivative of a product with respect to one factor is the other.",
                      BN, "d_var", "np.sum(d_xhat, axis=0, keepdims=True) * -0.5 * (var + eps) ** -1.5", "d_xhat, var, eps"),
        Misconception("extra operand", "A factor is there that does not belong.", "One step too far? It may belong to the next line.",
                      WN, "d_gain", "np.sum(d_w * vhat * norm, axis=1)", "d_w, vhat, norm"),
        Misconception("inverted", "It divides where it should multiply, or the other way round.", "Is it a standard deviation or its reciprocal?",
                      BN, "d_xhat", "d_y / gamma", "d_y, gamma"),
        Misconception("swapped", "Two names have changed places.", "Read the formula aloud, name by name.",
                      ABN, "d_x_form_2", "gamma * rstd * (d_y - y * d_beta / (m * gamma) - (d_gamma - beta * d_beta / gamma) / m)",
                      "d_y, d_gamma, d_beta, y, gamma, beta, rstd, m"),
        Misconception("missing one", "A 1 is missing, or too many.", "Write the local derivative down before multiplying it."),
        Misconception("repeated index", "An index that comes twice is counted once.", "a[i] += b keeps only one of them; np.add.at adds all."),
        Misconception("wrong index", "Another element is meant.", "Indices count from 0."),
        Misconception("overwritten", "A second contribution overwrites the first.", "Adjoints of several uses add up: += instead of =."),
        Misconception("wrong value", "A part looks like a value of the forward pass and is not the same.",
                      "Recompute it as the forward pass does, or use the value itself."),
        Misconception("wrong function", "Another function stands there.", "Look at the forward pass again.",
                      BN, "d_mu", "-np.sum(d_xhat * rstd, axis=0, keepdims=True) + d_var * np.sum(-2 * np.abs(xc), axis=0, keepdims=True) / m",
                      "d_xhat, d_var, rstd, xc, m"),
        Misconception("wrong condition", "The condition of a branch is wrong.", "Where exactly does the forward pass change its branch?",
                      ABN, "d_gamma", "np.sum(d_y * (np.where(z > beta, z, z / slope) - beta) / gamma, axis=0)", "d_y, z, gamma, beta, slope"),
        Misconception("branches swapped", "The two branches have changed places.", "np.where(condition, where it holds, where it does not).",
                      ABN, "d_y", "np.where(z > 0, slope * d_z, d_z)", "d_z, z, slope"),
    ),
    "Matrices": (
        Misconception("transposed", "Something has to be transposed, or must not be.", "Write the indices: the summed one stands inside.",
                      DBN, "d_D", "d_xhat @ xtilde.T + d_rotated @ xc.T", "d_xhat, d_rotated, xtilde, xc"),
        Misconception("diagonal only", "Each output was differentiated by its own input only.",
                      "A statistic or a norm couples all elements of a row: add up what they pass on.",
                      WN, "d_v_one_line", "gain[:, None] / norm * d_w * (1 - vhat**2)", "d_w, gain, norm, vhat"),
        Misconception("product", "An elementwise product stands where a matrix product belongs, or the other way round.",
                      "* multiplies elements, @ rows with columns."),
        Misconception("diagonal", "Only the diagonal belongs there, or something belongs on a diagonal.",
                      "A sum of elementwise products is a trace, not a sum of the matrix product.",
                      "06_spectral_norm", "d_sigma", "-np.sum(d_wbar @ W.T) / sigma**2", "d_wbar, W, sigma"),
        Misconception("wrong shape", "The numbers are right, or nearly, and the shape is not.",
                      "The adjoint has the shape of the value: keepdims=True, or [:, None]."),
    ),
    "Numbers": (
        Misconception("not exact", "It is nearly the derivative: a difference quotient, or a number with too few digits.",
                      "Derive it; a quotient only checks it."),
        Misconception("not finite", "It returned NaN or Inf.", "Where is something divided by 0, or a root of something negative taken?"),
        Misconception("float32", "It is right in float64, and in float32 it is not.", "A difference of large numbers, or a step that is lost."),
        Misconception("low precision", "It is right, and a sum was kept in too few bits.", "Add up in float32 or float64, and round once, at the end."),
        Misconception("miscounted", "A predicted number is not the measured one.", "Count again, for another shape."),
        Misconception("unexplained", "Nothing that is known here explains it.", "Compare with a central difference, element by element."),
    ),
}
MISCONCEPTIONS: dict[str, Misconception] = {m.code: m for family in FAMILIES.values() for m in family}


def page() -> str:
    """docs/misconceptions.md."""
    rows = ["# What people get wrong", "",
            "The codes that the checker gives to mistakes, in its reports and in a class summary. Each example is a line of an earlier",
            "version of the homework (`tests/people/tasks`) in which this has happened; what is said of it is tested.", ""]
    for family, members in FAMILIES.items():
        rows += [f"## {family}", ""]
        for m in members:
            rows += [f"**{m.code}**: {m.sentence} *{m.hint}*", ""]
            if m.body:
                rows += [f"    # {m.task}", f"    def {m.line}({m.arguments}):", f"        return {m.body}", ""]
    return "\n".join(rows)
