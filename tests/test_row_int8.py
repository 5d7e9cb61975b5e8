import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from train.row_int8 import SMALL_TABLE, quantize_rows

WIDTH, OUTPUTS = 32, 16


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(0).normal(size=(WIDTH, OUTPUTS)).astype(np.float32)


def save(path, nodes, tensors, inputs):
    graph = helper.make_graph(
        nodes,
        "graph",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def run(path, **feed):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


@pytest.fixture
def product(weights, tmp_path):
    """One matrix product, in int8."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", "tokens", WIDTH])
    save(
        tmp_path / "fp32.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights}, [x]
    )
    quantize_rows(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    return tmp_path / "int8.onnx"


def test_a_product_is_close_and_keeps_its_shape(product, weights):
    x = np.random.default_rng(1).normal(size=(3, 5, WIDTH)).astype(np.float32)
    found = run(product, x=x)
    assert found.shape == (3, 5, OUTPUTS)
    assert np.abs(found - x @ weights).mean() < 0.02 * np.abs(x @ weights).mean()


def test_an_outlier_coarsens_its_own_row_alone(product):
    x = np.random.default_rng(2).normal(size=(2, 4, WIDTH)).astype(np.float32)
    quiet = run(product, x=x)
    x[1, 2, 7] = 1e4
    np.testing.assert_array_equal(run(product, x=x)[0], quiet[0])
    np.testing.assert_array_equal(run(product, x=x[:1]), quiet[:1])


def test_a_row_of_noughts_gives_noughts(product):
    assert not run(product, x=np.zeros((1, 2, WIDTH), np.float32)).any()


def test_weights_leave_the_sums_of_old_processors_room(product):
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(product).graph.initializer}
    weights = [value for value in tensors.values() if value.shape == (WIDTH, OUTPUTS)]
    (integers,) = weights  # the fp32 weights are gone
    assert integers.dtype == np.int8
    # Two products of unsigned eight by signed bits must fit into signed sixteen.
    assert 2 * 255 * np.abs(integers.astype(int)).max() <= 2**15 - 1


@pytest.mark.parametrize(("words", "quantized"), [(SMALL_TABLE, False), (SMALL_TABLE + 1, True)])
def test_large_tables_of_embeddings_shrink(tmp_path, words, quantized):
    table = np.random.default_rng(3).normal(size=(words, WIDTH)).astype(np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.INT64, ["rows", "tokens"])
    save(tmp_path / "a.onnx", [helper.make_node("Gather", ["e", "x"], ["y"])], {"e": table}, [x])
    quantize_rows(tmp_path / "a.onnx", tmp_path / "b.onnx")
    ids = np.array([[0, 5, words - 1]])
    found = run(tmp_path / "b.onnx", x=ids)
    np.testing.assert_allclose(found, table[ids], atol=0.02)
    smaller = (tmp_path / "b.onnx").stat().st_size < 0.3 * (tmp_path / "a.onnx").stat().st_size
    assert smaller == quantized
