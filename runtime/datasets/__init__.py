"""Fashion-MNIST and folders of labelled images, read without PyTorch."""
