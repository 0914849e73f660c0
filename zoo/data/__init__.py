"""Fashion-MNIST as tensors on the device, and the augmentation of an epoch."""
