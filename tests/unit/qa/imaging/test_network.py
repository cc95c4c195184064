"""The brain network: read without its framework, equal to the oracle."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from qa.imaging import network

ORACLES = Path(
    os.environ.get(
        "RANVIER_TEST_ORACLES",
        Path(os.environ.get("RANVIER_TEST_DATA", "../shared/data")).parent / "oracles",
    )
)


def test_weights_are_plain_arrays_in_the_order_the_graph_needs() -> None:
    weights = network.read_weights("bbox_model")
    assert len(weights) == 38
    assert weights["init.0.weight"].shape == (16, 1, 7, 7, 7)
    assert weights["tp_conv2.bias"].dtype == np.float32


def test_a_class_that_is_no_tensor_is_refused() -> None:
    class Archive:
        def read(self, name: str) -> bytes:
            return pickle.dumps(os.getcwd)

    reader = network._TensorReader(Archive(), "x")  # type: ignore[arg-type]
    with pytest.raises(network.NetworkError, match="getcwd"):
        reader.load()


def test_altered_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(network.ARCHIVES, "model", "0" * 64)
    with pytest.raises(network.NetworkError, match="altered"):
        network.read_weights("model")


def test_the_converted_network_is_kept_and_not_made_again(tmp_path: Path) -> None:
    path = network.onnx_path("bbox_model", tmp_path)
    before = path.stat().st_mtime_ns
    assert network.onnx_path("bbox_model", tmp_path) == path
    assert path.stat().st_mtime_ns == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.timeout(300)
def test_outputs_equal_the_oracle(tmp_path: Path) -> None:
    oracle = ORACLES / "brainmask" / "bbox_model.onnx"
    if not oracle.exists():
        pytest.skip("the exported network to compare with is not on this machine")
    import onnxruntime

    image = np.random.default_rng(0).normal(0.449, 0.226, (1, 1, 128, 128, 128)).astype(np.float32)
    mine, theirs = (
        onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"]).run(None, {"x": image})[0]
        for p in (network.onnx_path("bbox_model", tmp_path), oracle)
    )
    assert np.abs(mine[:, 0] - theirs[:, 1]).max() < 1e-4
