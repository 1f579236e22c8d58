"""70,000 handwritten digits, 28x28 grey pixels.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
"""

from models.data.builtin.idx import idx_images

SOURCE = idx_images(
    "mnist", "Handwritten digits, 28x28 (MNIST)", torchvision_name="MNIST", classes=tuple("0123456789")
)
