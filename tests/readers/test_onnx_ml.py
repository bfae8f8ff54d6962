"""Classical models (`ai.onnx.ml`) against ONNX Runtime and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from intaglio.readers.onnx import load
from intaglio.shared.errors import FileFormatError, UnsupportedError
from tests.readers.onnx_batch import case, compare, merged, onnxruntime, run

RNG = np.random.default_rng(11)
NAN = float("nan")
X = np.round(RNG.standard_normal((7, 4)), 1).astype(np.float32)
GAPS = X.copy()
GAPS[0, 1] = NAN
WHOLE = np.arange(8).reshape(2, 4)


def ml(op, *operands, **rest):
    return case(op, *operands, domain="ai.onnx.ml", **rest)


def numbers(*shape, scale=1.0):
    return (RNG.standard_normal(shape) * scale).reshape(-1).tolist()


FEATURES = [
    ml("Scaler", X, offset=[0.1], scale=[2.0]),
    ml("Scaler", WHOLE, offset=[1.0, 2, 3, 4], scale=[2.0, 1, 1, 3]),
    *(ml("Normalizer", np.concatenate([X, 0 * X]), norm=norm) for norm in ("MAX", "L1", "L2")),
    ml("Imputer", GAPS, imputed_value_floats=[1.0, 2, 3, 4], replaced_value_float=NAN),
    ml("Imputer", WHOLE, imputed_value_int64s=[9], replaced_value_int64=3),
    ml("Binarizer", X, threshold=0.3),
    ml("ArrayFeatureExtractor", X, np.array([[0, 2]])),
    ml("ArrayFeatureExtractor", X[0], np.array([1, 2, 3])),
    ml("FeatureVectorizer", X, X[:, :2], inputdimensions=[4, 2]),
    ml("OneHotEncoder", np.array([[1, 3], [2, 9]]), cats_int64s=[1, 2, 3]),
    ml("LabelEncoder", np.array([1, 3, 7]), keys_int64s=[3, 7], values_floats=[0.5, 1.5], default_float=9.0),
    ml("LabelEncoder", np.array([1, 3.5], np.float32), keys_floats=[3.5, 7], values_int64s=[5, 6]),
]
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")


def linear(rows, labels, transform):
    common = {
        "coefficients": numbers(rows, 4, scale=0.1),
        "intercepts": numbers(rows),
        "post_transform": transform,
    }
    return ml("LinearClassifier", X, outputs=2, classlabels_ints=labels, **common)


LINEAR = [
    *(linear(3, [5, 3, 8], t) for t in (*TRANSFORMS, "PROBIT")),
    *(linear(2, [5, 3], t) for t in TRANSFORMS),
    *(linear(1, [5, 3], t) for t in TRANSFORMS),
    ml("LinearRegressor", X, coefficients=numbers(2, 4), intercepts=numbers(2), targets=2),
    ml(
        "LinearRegressor", X, coefficients=numbers(1, 4, scale=0.1), intercepts=[0.5], post_transform="PROBIT"
    ),
]


def forest(trees=5, depth=3, modes=("BRANCH_LEQ",)):
    """Full binary trees with random tests; the attributes of their nodes, and their leaves."""
    count, inner = 2 ** (depth + 1) - 1, 2**depth - 1
    nodes = [(t, k) for t in range(trees) for k in range(count)]
    attributes = {
        "nodes_treeids": [t for t, _ in nodes],
        "nodes_nodeids": [k for _, k in nodes],
        "nodes_featureids": RNG.integers(0, 4, len(nodes)).tolist(),
        "nodes_values": np.round(RNG.standard_normal(len(nodes)), 1).tolist(),
        "nodes_modes": [str(RNG.choice(modes)) if k < inner else "LEAF" for _, k in nodes],
        "nodes_truenodeids": [2 * k + 1 if k < inner else 0 for _, k in nodes],
        "nodes_falsenodeids": [2 * k + 2 if k < inner else 0 for _, k in nodes],
        "nodes_missing_value_tracks_true": RNG.integers(0, 2, len(nodes)).tolist(),
    }
    return attributes, [(t, k) for t, k in nodes if k >= inner]


def weights(role, leaves, ids, values):
    ends = {
        "treeids": [t for t, _ in leaves],
        "nodeids": [k for _, k in leaves],
        "ids": ids,
        "weights": values,
    }
    return {f"{role}_{name}": value for name, value in ends.items()}


def regressor(aggregate, targets=1, **rest):
    attributes, leaves = forest(**rest)
    ids = [k % targets for k in range(len(leaves))]
    ends = weights("target", leaves, ids, numbers(len(leaves)))
    settings = {"n_targets": targets, "aggregate_function": aggregate, "base_values": numbers(targets)}
    return ml("TreeEnsembleRegressor", GAPS, **attributes, **ends, **settings)


def classifier(labels, ids, transform, positive=False, **rest):
    attributes, leaves = forest()
    every = [(leaf, c) for leaf in leaves for c in ids]
    values = np.array(numbers(len(every), scale=0.1))
    values = np.abs(values) if positive else values
    ends = weights("class", [leaf for leaf, _ in every], [c for _, c in every], values.tolist())
    settings = {"classlabels_int64s": labels, "post_transform": transform, **rest}
    return ml("TreeEnsembleClassifier", GAPS, outputs=2, **attributes, **ends, **settings)


MODES = tuple(f"BRANCH_{m}" for m in ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ"))
TREES = [
    *(regressor(how) for how in ("SUM", "AVERAGE", "MIN", "MAX")),
    regressor("SUM", targets=2),
    regressor("SUM", modes=MODES),
    *(classifier([4, 2, 9], [0, 1, 2], t) for t in TRANSFORMS),
    *(classifier([4, 2], [k], t) for k in range(2) for t in TRANSFORMS),
    *(classifier([4, 2], [0], t, positive=True, base_values=[0.2]) for t in TRANSFORMS),
]


def support_vectors(kernel, classes, transform="NONE", **rest):
    pairs = classes * (classes - 1) // 2
    sizes = {2: [3, 3], 3: [2, 3, 1]}[classes]
    settings = {
        "coefficients": numbers(classes - 1, 6),
        "support_vectors": numbers(6, 4),
        "vectors_per_class": sizes,
        "kernel_type": kernel,
        "kernel_params": [0.4, 0.3, 2.0],
        "rho": numbers(pairs),
        "classlabels_ints": [4, 6, 3][:classes],
        "post_transform": transform,
        **{name: numbers(pairs) for name in rest},
    }
    return ml("SVMClassifier", X, outputs=2, **settings)


def regression(kernel, **rest):
    settings = {"coefficients": numbers(6), "support_vectors": numbers(6, 4), "n_supports": 6, "rho": [0.3]}
    return ml("SVMRegressor", X, kernel_type=kernel, kernel_params=[0.4, 0.3, 2.0], **settings, **rest)


VECTORS = [
    *(support_vectors(kernel, n) for kernel in ("LINEAR", "POLY", "RBF", "SIGMOID") for n in (2, 3)),
    *(support_vectors("RBF", n, "LOGISTIC") for n in (2, 3)),
    *(support_vectors("RBF", n, prob_a=True, prob_b=True) for n in (2, 3)),
    regression("RBF"),
    regression("POLY", one_class=1),
]


@pytest.mark.parametrize(
    "cases", [FEATURES, LINEAR, TREES, VECTORS], ids=["features", "linear", "trees", "vectors"]
)
def test_as_onnx_runtime(cases):
    """One program of all cases; what fuses is compiled, so that the language is covered as well."""
    pytest.importorskip("onnxruntime")
    model, feeds = merged(cases)
    compare(cases, run(model, feeds), onnxruntime(model, feeds), rtol=1e-3, atol=1e-4)


NODES = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")


def test_a_forest_of_scikit_learn():
    """Labels and probabilities of a trained forest whose nodes are written down here."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    data = pytest.importorskip("sklearn.datasets").load_iris()
    trained = ensemble.RandomForestClassifier(8, max_depth=4, random_state=0).fit(data.data, data.target)
    columns, ends = {name: [] for name in NODES}, []
    for t, estimator in enumerate(trained.estimators_):
        tree = estimator.tree_
        for k in range(tree.node_count):
            yes, no = int(tree.children_left[k]), int(tree.children_right[k])
            test = (int(tree.feature[k]), float(tree.threshold[k]), "BRANCH_LEQ", yes, no)
            row = (t, k, *((0, 0.0, "LEAF", 0, 0) if yes < 0 else test))
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
            if yes < 0:
                share = tree.value[k][0] / tree.value[k][0].sum() / len(trained.estimators_)
                ends += [((t, k), c, float(v)) for c, v in enumerate(share)]
    attributes = {f"nodes_{name}": values for name, values in columns.items()}
    attributes |= weights("class", *(list(column) for column in zip(*ends, strict=True)))
    x = data.data[::3].astype(np.float32)
    one = ml("TreeEnsembleClassifier", x, outputs=2, classlabels_int64s=[0, 1, 2], **attributes)
    label, chance = run(*merged([one]))
    np.testing.assert_array_equal(label, trained.predict(data.data[::3]))
    np.testing.assert_allclose(chance, trained.predict_proba(data.data[::3]), atol=1e-6)


def tensor(*numbers, dtype=np.float32):
    return numpy_helper.from_array(np.array(numbers, dtype))


def modes(*numbers):
    return tensor(*numbers, dtype=np.uint8)


def ensemble(**changes):
    attributes = {
        "nodes_featureids": [0, 1, 0],
        "nodes_modes": modes(0, 6, 3),
        "nodes_splits": tensor(0.1, 0, 1),
        "nodes_truenodeids": [1, 0, 2],
        "nodes_trueleafs": [0, 1, 1],
        "nodes_falsenodeids": [2, 1, 3],
        "nodes_falseleafs": [0, 1, 1],
        "leaf_targetids": [0, 1, 0, 1],
        "leaf_weights": tensor(5, 6, 7, 8),
        "membership_values": tensor(1, 3, NAN),
        "tree_roots": [0],
        "n_targets": 2,
    }
    x = np.array([[0.0, 1], [0.1, 2], [0, 3], [0.5, 1], [2, 0]], np.float32)
    return case("TreeEnsemble", x, domain="ai.onnx.ml", **{**attributes, **changes})


def test_trees_with_sets():
    cases = [ensemble(), ensemble(aggregate_function=0), ensemble(nodes_modes=modes(4, 6, 5))]
    model, feeds = merged(cases, {"ai.onnx.ml": 5})
    compare(cases, run(model, feeds), ReferenceEvaluator(model).run(None, feeds))


@pytest.mark.parametrize(
    ("one", "error", "message"),
    [
        (ensemble(nodes_truenodeids=[1, 0, 9]), FileFormatError, "does not exist"),
        (ensemble(nodes_truenodeids=[0, 0, 2]), FileFormatError, "cycle"),
        (
            ml("LinearClassifier", X, coefficients=numbers(2, 4), classlabels_strings=["a", "b"]),
            UnsupportedError,
            "text",
        ),
        (ml("ZipMap", X, classlabels_int64s=[1, 2]), UnsupportedError, "maps"),
    ],
)
def test_what_is_refused(one, error, message):
    with pytest.raises(error, match=message):
        load(merged([one], {"ai.onnx.ml": 5})[0])
