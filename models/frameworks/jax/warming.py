"""The first use of the device and of the compiler, paid for while a process waits for work."""

import jax
import numpy as np

from models.cnn.spec import CNNSpec
from models.engine import Definition, Samples
from models.frameworks.jax.training import JaxTrainer
from models.initial import initial_weights
from models.plan import Segment
from models.preprocessing import Normalisation
from models.signature import ImageInput, Signature
from models.training import AdamW, TrainingSpec


def practise(device: jax.Device) -> None:
    """One step of the smallest network that has all kinds of layers; most of what it costs is paid once."""
    spec = CNNSpec(width=4, stages=1)
    signature = Signature(
        task="image-classification", input=ImageInput(height=8, width=8, channels=1), outputs=2
    )
    normalisation = Normalisation(np.zeros(1, np.float32), np.ones(1, np.float32))
    trainer = JaxTrainer(
        Definition(spec, signature, normalisation),
        TrainingSpec(max_steps=1, batch_size=2, optimizer=AdamW()),
        {"train": Samples(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2, np.int32))},
        initial_weights(spec, signature, 0),
        {},
        0,
        device,
        budget_bytes=0,
    )
    trainer.run(Segment(np.zeros((1, 2), np.int32), np.full(1, 1e-3), np.zeros(1, np.int32))).result()
