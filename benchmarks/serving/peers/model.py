"""What every peer serves: the same TorchScript file, with BatchNorm folded and frozen, from raw input to a label.

Runs in a peer's own environment, which has torch and Pillow and nothing of Tandem. BENCH_MODEL is the file, BENCH_WORK
`tiny` (a row of numbers) or `image` (a PNG in base64), BENCH_THREADS torch's threads of one process.
"""

import base64
import io
import os

import numpy as np
import torch
from PIL import Image

IS_IMAGE = os.environ["BENCH_WORK"] == "image"


class Model:
    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
        torch.set_flush_denormal(True)
        self.network = torch.jit.load(os.environ["BENCH_MODEL"]).eval()
        self.labels([self.sample([0.0] * 32)] if not IS_IMAGE else [np.zeros((32, 32, 3), np.uint8)])

    def sample(self, value: object) -> np.ndarray:
        """One input as it comes in JSON."""
        if IS_IMAGE:
            with Image.open(io.BytesIO(base64.b64decode(str(value)))) as image:
                return np.array(image.convert("RGB"))
        return np.asarray(value, np.float32)

    def labels(self, samples: "list[np.ndarray]") -> "list[int]":
        """The index of the likeliest class of each."""
        with torch.inference_mode():
            return self.network(torch.from_numpy(np.stack(samples))).argmax(1).tolist()
