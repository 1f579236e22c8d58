"""A small model of every architecture, with weights as training leaves them."""

import numpy as np

from models.architecture import Spec, Tensor
from models.catalog import architectures, declarations
from models.preparation.text import preprocessing_of
from models.preprocessing import ImagePreprocessing, TablePreprocessing
from models.signature import Signature
from models.text_spec import TextSpec
from models.weights import ModelCard, WeightsFile

CLASSES = ("cat", "dog", "emu")
OPTIONS = {
    "mlp": {"hidden": (8,)},
    "cnn": {"width": 4, "stages": 2},
    "vgg11": {"width": 2, "hidden": 8},
    "vgg16": {"width": 2, "hidden": 8},
    "convnext_tiny": {"depths": (1, 2, 1, 1), "widths": (4, 6, 8, 10)},
    "bilstm": {"embedding": 12, "hidden": 10},
    "transformer": {"layers": 2, "heads": 2, "hidden": 16, "mlp": 20},
    "distilbert": {"layers": 2, "heads": 2, "hidden": 16, "mlp": 20, "positions": 300},
    "vit": {"patch_size": 8, "layers": 2, "heads": 2, "hidden": 16, "mlp": 20},
}
"""Of architectures whose defaults are large."""

IMAGES = ImagePreprocessing(height=32, width=32, channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.1))
ROWS = TablePreprocessing(columns=("age", "size"), mean=(40.0, 1e4), std=(20.0, 3e3))
OF_TASKS = {"image-classification": IMAGES, "tabular-classification": ROWS}
SENTENCES = ["a good film", "a bad film", "not a good film , not at all"]
REGRESSION = ROWS.model_copy(update={"target_mean": 150.0, "target_std": 77.0})


def exportable(name: str) -> WeightsFile:
    """A model that tells `CLASSES` apart, of the first kind of input that the architecture takes."""
    spec = architectures()[name](**OPTIONS.get(name, {}))
    task = spec.tasks[0]
    about = preprocessing_of(SENTENCES, spec, None) if isinstance(spec, TextSpec) else OF_TASKS[task]
    signature = Signature(task=task, input=about.input, outputs=len(CLASSES))
    card = ModelCard(model=spec, signature=signature, preprocessing=about, classes=CLASSES)
    return WeightsFile(card, weights(spec, signature))


def regression() -> WeightsFile:
    """A model of a standardised target."""
    spec = architectures()["linear"]()
    signature = Signature(task="tabular-regression", input=REGRESSION.input, outputs=1)
    card = ModelCard(model=spec, signature=signature, preprocessing=REGRESSION, classes=None)
    return WeightsFile(card, weights(spec, signature))


def weights(spec: Spec, signature: Signature, seed: int = 0) -> dict[str, np.ndarray]:
    """Initial weights, moved, so that nothing is a zero or a one that hides a mistake."""
    generator = np.random.default_rng(seed)
    return {name: _moved(tensor, generator) for name, tensor in declarations(spec, signature).items()}


def _moved(tensor: Tensor, generator: np.random.Generator) -> np.ndarray:
    drawn = np.asarray(tensor.draw(generator, tensor.shape), tensor.dtype)
    if not np.issubdtype(tensor.dtype, np.floating):
        return drawn
    factor = generator.uniform(0.8, 1.2, tensor.shape)
    offset = 0.0 if tensor.kind == "statistic" else generator.normal(0, 0.02, tensor.shape)
    return (drawn * factor + offset).astype(tensor.dtype)
