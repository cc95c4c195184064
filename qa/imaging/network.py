"""The brain-extraction network: deepbet's published weights, rewritten as ONNX without their original framework.

Here: reading the two TorchScript archives of the deepbet wheel (a zip of raw tensors and one pickle, read by an
unpickler that can build nothing but tensors), and the graph of the 3D LinkNet they belong to. Not here: what is done
to an image before and after (`qa.imaging.mask`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from warehouse.errors import RanvierError
from warehouse.lake import write_bytes

ARCHIVES = {
    "bbox_model": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    "model": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}
"""SHA-256 of each archive: weights that are not these would measure something else under the same method version."""
EDGE = {"bbox_model": 128, "model": 256}
"""Each network's cubic input, in voxels."""
OPSET = 14
GRAPH_VERSION = "3"


class NetworkError(RanvierError):
    """The brain-extraction weights cannot be used."""


class _Record:
    """What any module class of the archive becomes: attributes only."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _TensorReader(pickle.Unpickler):
    """Builds plain records and numpy arrays; no class named in the archive is ever imported."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("torch", "FloatStorage") or module.split(".")[0] == "__torch__":
            return type(name, (_Record,), {})
        raise NetworkError(
            f"The brain-extraction weights name {module}.{name}, which is not a tensor; reinstall deepbet"
        )

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, _, key, _, count = pid
        return np.frombuffer(self._archive.read(f"{self._root}/data/{key}"), dtype="<f4", count=count)

    @staticmethod
    def _tensor(
        storage: np.ndarray,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *_: Any,
    ) -> Any:
        size = int(np.prod(shape))
        expected = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
        if any(have != want for have, want, n in zip(strides, expected, shape, strict=True) if n > 1):
            raise NetworkError("The brain-extraction weights are not stored in row order; reinstall deepbet")
        return storage[offset : offset + size].reshape(shape)


def _archive_path(name: str) -> Path:
    try:
        files = importlib.metadata.files("deepbet") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise NetworkError("The package deepbet, which ships the brain-extraction weights, is not installed") from error
    for file in files:
        if file.parts[-2:] == ("models", f"{name}.pt"):
            path = Path(str(file.locate()))
            if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == ARCHIVES[name]:
                return path
    raise NetworkError(f"deepbet's weights {name}.pt are missing or altered; reinstall deepbet 1.0.2")


def read_weights(name: str) -> dict[str, np.ndarray]:
    """Every tensor of one of deepbet's archives, by its dotted name.

    Parameters
    ----------
    name
        `bbox_model` (where is the brain) or `model` (which voxels are brain).

    Raises
    ------
    NetworkError
        The archive is missing, altered or holds anything but tensors.
    """
    with zipfile.ZipFile(_archive_path(name)) as archive:
        root = archive.namelist()[0].split("/", 1)[0]
        tree = _TensorReader(archive, root).load()
    weights: dict[str, np.ndarray] = {}

    def walk(node: _Record, prefix: str) -> None:
        for key, value in vars(node).items():
            if isinstance(value, np.ndarray):
                weights[prefix + key] = value
            elif isinstance(value, _Record):
                walk(value, f"{prefix}{key}.")

    walk(tree, "")
    return weights


class _Graph:
    """Collects the nodes of a 3D LinkNet (Chaurasia 2017) with instance norm that has no parameters of its own."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        from onnx import numpy_helper

        self.weights, self.nodes = weights, []  # type: tuple[dict[str, np.ndarray], list[Any]]
        self.initializers = [numpy_helper.from_array(value.copy(), name) for name, value in weights.items()]
        for channels in (4, 8, 16, 32, 64, 128):
            for name, value in (("one", 1.0), ("zero", 0.0)):
                array = np.full(channels, value, np.float32)
                self.initializers.append(numpy_helper.from_array(array, f"{name}.{channels}"))

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def conv(
        self,
        value: str,
        name: str,
        *,
        stride: int = 1,
        transposed: bool = False,
        padding: int | None = None,
    ) -> str:
        weight = self.weights[f"{name}.weight"]
        kernel = weight.shape[2]
        pad = kernel // 2 if padding is None else padding
        inputs = [value, f"{name}.weight"] + ([f"{name}.bias"] if f"{name}.bias" in self.weights else [])
        extra: dict[str, Any] = {}
        if transposed and stride > 1 and kernel == 3:
            extra["output_padding"] = [1] * 3
        kind = "ConvTranspose" if transposed else "Conv"
        return self.add(
            kind,
            inputs,
            kernel_shape=[kernel] * 3,
            strides=[stride] * 3,
            pads=[pad] * 6,
            **extra,
        )

    def norm(self, value: str, name: str, *, transposed: bool = False) -> str:
        channels = self.weights[f"{name}.weight"].shape[1 if transposed else 0]
        return self.add(
            "InstanceNormalization",
            [value, f"one.{channels}", f"zero.{channels}"],
            epsilon=1e-5,
        )

    def relu(self, value: str) -> str:
        return self.add("Relu", [value])

    def conv_norm(self, value: str, name: str, *, stride: int = 1, transposed: bool = False) -> str:
        return self.norm(
            self.conv(value, name, stride=stride, transposed=transposed),
            name,
            transposed=transposed,
        )

    def residual(self, value: str, name: str, stride: int) -> str:
        shortcut = value
        if f"{name}.downsample.0.weight" in self.weights:
            shortcut = self.conv_norm(value, f"{name}.downsample.0", stride=stride)
        inner = self.relu(self.conv_norm(value, f"{name}.double_conv.0", stride=stride))
        inner = self.conv_norm(inner, f"{name}.double_conv.3")
        return self.relu(self.add("Add", [inner, shortcut]))

    def decoder(self, value: str, name: str, stride: int) -> str:
        value = self.relu(self.conv_norm(value, f"{name}.conv1.0"))
        value = self.relu(self.conv_norm(value, f"{name}.tp_conv.0", stride=stride, transposed=True))
        return self.relu(self.conv_norm(value, f"{name}.conv2.0"))


def build_onnx(weights: dict[str, np.ndarray], edge: int) -> bytes:
    """The network as an ONNX model: input `x` (1, 1, edge, edge, edge), output `y` of that shape, probability of brain.

    The published network ends in a softmax over background and brain. Of two channels that is the sigmoid of their
    difference, and the last layer is linear: one channel with the difference of its weights costs a third of the time.
    That layer doubles the edge without overlap, so each coarse voxel makes its eight fine ones by itself: a plain
    convolution and a reordering, faster than the transposed one.
    """
    from onnx import TensorProto, checker, helper

    last = np.diff(weights["tp_conv2.weight"], axis=1)[:, 0].reshape(-1, 8).T
    split = {
        "tp_conv2.weight": np.ascontiguousarray(last.reshape(*last.shape, 1, 1, 1)),
        "tp_conv2.bias": np.repeat(np.diff(weights["tp_conv2.bias"]), 8),
        "halves": np.array([2, 2, 2, *[edge // 2] * 3], np.int64),
        "whole": np.array([1, 1, *[edge] * 3], np.int64),
    }
    graph = _Graph(weights | split)
    value = graph.relu(graph.conv_norm("x", "init.0", stride=2))
    value = stem = graph.add("MaxPool", [value], kernel_shape=[3] * 3, strides=[2] * 3, pads=[1] * 6)
    skips = []
    for level in range(4):
        value = graph.residual(value, f"down{level}.block1", stride=1 if level == 0 else 2)
        value = graph.residual(value, f"down{level}.block2", stride=1)
        skips.append(value)
    for level, skip in enumerate([skips[2], skips[1], skips[0], stem]):
        value = graph.add(
            "Add",
            [graph.decoder(value, f"up{level}", stride=1 if level == 3 else 2), skip],
        )
    value = graph.relu(graph.conv_norm(value, "tp_conv1.0", stride=2, transposed=True))
    value = graph.relu(graph.conv_norm(value, "conv.0"))
    value = graph.add("Sigmoid", [graph.conv(value, "tp_conv2")])
    value = graph.add("Transpose", [graph.add("Reshape", [value, "halves"])], perm=[3, 0, 4, 1, 5, 2])
    graph.nodes.append(helper.make_node("Reshape", [value, "whole"], ["y"]))
    shape = [edge] * 3
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "linknet3d",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, *shape])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, *shape])],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    checker.check_model(model)
    return bytes(model.SerializeToString())


def onnx_path(name: str, cache: Path) -> Path:
    """The ONNX form of one of the two networks, made on first use and kept in `cache`."""
    target = cache / "networks" / f"deepbet-1.0.2-{name}-{GRAPH_VERSION}.onnx"
    if not target.exists():
        write_bytes(target, build_onnx(read_weights(name), EDGE[name]))
    return target
