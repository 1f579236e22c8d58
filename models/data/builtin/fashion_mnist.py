"""70,000 pictures of clothes, 28x28 grey pixels. Debian's package `dataset-fashion-mnist` holds the files.

Source: H. Xiao, K. Rasul, R. Vollgraf, https://arxiv.org/abs/1708.07747.
"""

from models.data.builtin.idx import idx_images

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

SOURCE = idx_images(
    "fashion-mnist", "Clothes, 28x28 (Fashion-MNIST)", torchvision_name="FashionMNIST", classes=CLASSES
)
