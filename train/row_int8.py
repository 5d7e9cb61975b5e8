"""int8 for an ONNX encoder, with a scale for every row of activations.

What ONNX Runtime's own dynamic quantisation does with activations is one scale for a whole
batch: the outlier of one sentence coarsens every other, and a sentence's numbers change with its
neighbours. Here each token has a scale of its own, as in "LLM.int8()" (Dettmers et al., arXiv
2208.07339, section 2.1, vector-wise quantisation; without its fp16 part), so that a sentence
gets the same numbers in any company, and no product has to be left in fp32 for its outliers.

Weights have one scale a column and seven bits, so that the 16-bit sums of AVX2 processors
without VNNI cannot overflow and one file serves all of them; word embeddings have one a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

WEIGHT_LEVELS: Final = 63
"""The largest weight, as an integer: seven bits."""
LEVELS: Final = 127
ZERO: Final = 128
"""Activations are unsigned: what stands for nought."""
SMALLEST: Final = 1e-9
"""The least that a row's largest value counts as: a row of noughts must not divide by nought."""
SMALL_TABLE: Final = 4096
"""Rows up to which a table of embeddings is not worth quantising: positions, segments."""


def quantize_rows(source: Path, target: Path) -> None:
    """Quantises the matrix products and word embeddings of an encoder.

    Products with a matrix of weights (``MatMul``) become int8; what computes a single vector a
    sentence (``Gemm``: pooler and classifier) stays as it is.

    Args:
        source: An fp32 file, its attention not fused with the products before it.
        target: Where the int8 file goes.
    """
    model = onnx.load(source)
    graph = _Graph(model)
    for node in list(model.graph.node):
        weight = graph.matrix(node.input[1]) if node.op_type == "MatMul" else None
        table = graph.matrix(node.input[0]) if node.op_type == "Gather" else None
        if weight is not None:
            graph.product(node, weight)
        elif table is not None and len(table) > SMALL_TABLE:
            graph.lookup(node, table)
        else:
            graph.nodes.append(node)
    graph.write(target)


class _Graph:
    """A model's graph while its nodes are replaced, in their order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = []
        self._given = {tensor.name: tensor for tensor in model.graph.initializer}
        self._made: dict[str, onnx.TensorProto] = {}
        self._quantized: dict[str, tuple[str, str, str]] = {}
        for name, value in (
            ("one", np.float32(1)),
            ("zero", np.uint8(ZERO)),
            ("zeros", np.array([ZERO], np.uint8)),
            ("smallest", np.float32(SMALLEST)),
            ("level", np.float32(1 / LEVELS)),
            ("last_axis", np.array([-1])),
            ("second_axis", np.array([1])),
        ):
            self._tensor(f"int8/{name}", np.asarray(value))

    def matrix(self, name: str) -> npt.NDArray[np.float32] | None:
        """Returns a matrix of fp32 weights, or ``None`` if the name stands for something else."""
        tensor = self._given.get(name)
        if tensor is None or len(tensor.dims) != 2 or tensor.data_type != onnx.TensorProto.FLOAT:
            return None
        return np.asarray(numpy_helper.to_array(tensor))

    def product(self, node: onnx.NodeProto, weight: npt.NDArray[np.float32]) -> None:
        """Replaces ``y = x w`` by an int8 product; products of the same ``x`` share its integers.

        Args:
            node: The product.
            weight: Shape (inputs, outputs).
        """
        integers, scales, shape = self._quantize(node.input[0], len(weight))
        name = node.output[0]
        column = np.maximum(np.abs(weight).max(axis=0), SMALLEST) / WEIGHT_LEVELS
        self._tensor(f"{name}/weight", np.round(weight / column).astype(np.int8))
        self._tensor(f"{name}/scale", column.astype(np.float32))
        self._tensor(f"{name}/zero", np.zeros(len(column), np.int8))
        inputs = [integers, f"{name}/weight", "int8/one", f"{name}/scale", "int8/zero"]
        self._node(
            "MatMulIntegerToFloat",
            [*inputs, f"{name}/zero"],
            f"{name}/product",
            domain="com.microsoft",
        )
        self._node("Mul", [f"{name}/product", scales], f"{name}/rows")
        self._node("Reshape", [f"{name}/rows", shape], name)

    def lookup(self, node: onnx.NodeProto, table: npt.NDArray[np.float32]) -> None:
        """Replaces a look-up of embeddings by one in int8, with a scale for each row.

        Args:
            node: The look-up.
            table: Shape (words, width).
        """
        name = node.output[0]
        scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), SMALLEST) / LEVELS
        self._tensor(f"{name}/table", np.round(table / scale).astype(np.int8))
        self._tensor(f"{name}/scales", scale.astype(np.float32))
        self._node("Gather", [f"{name}/table", node.input[1]], f"{name}/integers")
        self._node("Gather", [f"{name}/scales", node.input[1]], f"{name}/scale")
        self._node("Cast", [f"{name}/integers"], f"{name}/cast", to=onnx.TensorProto.FLOAT)
        self._node("Mul", [f"{name}/cast", f"{name}/scale"], name)

    def write(self, path: Path) -> None:
        """Writes the model with its new nodes and without the weights they replace."""
        graph = self.model.graph
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend([*kept, *self._made.values()])
        domains = {entry.domain for entry in self.model.opset_import}
        if "com.microsoft" not in domains:
            self.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        onnx.save(self.model, path)

    def _quantize(self, x: str, width: int) -> tuple[str, str, str]:
        """Returns ``x`` as integers, its scales, and the shape that results go back to.

        The integers have shape (rows, width), the scales (rows, 1); a row is a token.
        """
        if x not in self._quantized:
            self._tensor(f"{x}/width", np.array([-1, width]))
            self._node("Reshape", [x, f"{x}/width"], f"{x}/flat")
            self._node("Abs", [f"{x}/flat"], f"{x}/absolute")
            self._node("ReduceMax", [f"{x}/absolute"], f"{x}/largest", axes=[1], keepdims=1)
            self._node("Max", [f"{x}/largest", "int8/smallest"], f"{x}/range")
            self._node("Mul", [f"{x}/range", "int8/level"], f"{x}/scale")
            self._node("Squeeze", [f"{x}/scale", "int8/second_axis"], f"{x}/scales")
            self._node("Shape", [f"{x}/scales"], f"{x}/rows")
            self._node("Expand", ["int8/zeros", f"{x}/rows"], f"{x}/zeros")
            self._node(
                "QuantizeLinear",
                [f"{x}/flat", f"{x}/scales", f"{x}/zeros"],
                f"{x}/integers",
                axis=0,
            )
            self._node("Shape", [x], f"{x}/leading", end=-1)
            self._node("Concat", [f"{x}/leading", "int8/last_axis"], f"{x}/shape", axis=0)
            self._quantized[x] = f"{x}/integers", f"{x}/scale", f"{x}/shape"
        return self._quantized[x]

    def _tensor(self, name: str, value: npt.NDArray[np.generic]) -> None:
        self._made[name] = numpy_helper.from_array(value, name)

    def _node(self, kind: str, inputs: list[str], output: str, **settings: object) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **settings))
