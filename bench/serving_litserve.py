"""The network of bench.serving behind LitServe, in a module of its own: its workers are told the class by name."""

import base64
import importlib
from typing import Any

import numpy as np

from bench.serving import BATCH, Network, frame_of

__all__ = ["serve_litserve"]

litserve: Any = importlib.import_module("litserve")


class Api(litserve.LitAPI):
    """JSON with the frame in base64, as LitServe's documentation sends pictures."""

    def __init__(self, regime: str) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=0.002)
        self._regime = regime

    def setup(self, device: str) -> None:  # noqa: ARG002
        self.network = Network(self._regime)

    def decode_request(self, request: dict[str, str]) -> np.ndarray:
        return self.network.prepare(frame_of(base64.b64decode(request["frame"])))

    def batch(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        return inputs

    def predict(self, inputs: list[np.ndarray]) -> list[float]:
        return self.network.run(inputs)

    def unbatch(self, output: list[float]) -> list[float]:
        return output

    def encode_response(self, output: float) -> dict[str, float]:
        return {"score": output}


def serve_litserve(regime: str, port: int) -> int:
    """Through its fast queue; batches as they come, within 2 ms."""
    server = litserve.LitServer(Api(regime), accelerator="cpu", fast_queue=True)
    server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False, access_log=False)
    return 0
