"""A tiny ONNX detector, made without a library: bright squares of 64 pixels are things."""

from pathlib import Path

import numpy as np

__all__ = ["CELLS", "write_detector"]

CELLS = 10
"""A side of 640 pixels has so many squares."""
FLOAT, INT64 = 1, 7


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _tensor(name: str, array: np.ndarray) -> bytes:
    kind = FLOAT if array.dtype == np.float32 else INT64
    dims = b"".join(_number(1, side) for side in array.shape)
    return dims + _number(2, kind) + _bytes(8, name) + _bytes(9, array.tobytes())


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_bytes(1, _number(1, side)) for side in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, FLOAT) + _bytes(2, dims)))


def _node(kind: str, inputs: list[str], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(_bytes(1, name) for name in inputs) + _bytes(2, output) + _bytes(4, kind) + attributes


def _integers(name: str, values: list[int]) -> bytes:
    return _bytes(5, _bytes(1, name) + b"".join(_number(8, value) for value in values) + _number(20, 7))


def _integer(name: str, value: int) -> bytes:
    return _bytes(5, _bytes(1, name) + _number(3, value) + _number(20, 2))


def write_detector(path: Path, *, numbers: int = 4) -> Path:
    """A net (1, 3, 640, 640) -> (1, `numbers` + 1, 100); a detector where `numbers` is 4: middle, size, brightness."""
    y, x = np.indices((CELLS, CELLS))
    boxes = np.stack([64 * x + 32, 64 * y + 32, np.full_like(x, 64), np.full_like(x, 64)]).reshape(1, 4, -1)
    squares = _integers("kernel_shape", [64, 64]) + _integers("strides", [64, 64])
    graph = b"".join(
        [
            _bytes(1, _node("AveragePool", ["in"], "mean", squares)),
            _bytes(1, _node("Conv", ["mean", "third", "less"], "grey", _integers("kernel_shape", [1, 1]))),
            _bytes(1, _node("Reshape", ["grey", "flat"], "score")),
            _bytes(1, _node("Concat", ["boxes", "score"], "out", _integer("axis", 1))),
            _bytes(2, "bright"),
            _bytes(5, _tensor("third", np.full((1, 3, 1, 1), 1 / 3, np.float32))),
            _bytes(5, _tensor("less", np.array([-0.5], np.float32))),
            _bytes(5, _tensor("flat", np.array([1, 1, CELLS * CELLS], np.int64))),
            _bytes(5, _tensor("boxes", boxes[:, :numbers].astype(np.float32))),
            _bytes(11, _value("in", (1, 3, 640, 640))),
            _bytes(12, _value("out", (1, numbers + 1, CELLS * CELLS))),
        ]
    )
    path.write_bytes(_number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 13)))
    return path
