"""60,000 colour photographs, 32x32, in ten classes.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from models.data.builtin.cifar import Layout, cifar_images

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

SOURCE = cifar_images(
    "cifar10",
    "Photographs in 10 classes, 32x32 (CIFAR-10)",
    layout=Layout(
        torchvision_name="CIFAR10",
        folder="cifar-10-batches-bin",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test=("test_batch.bin",),
        label_bytes=1,
    ),
    classes=CLASSES,
)
