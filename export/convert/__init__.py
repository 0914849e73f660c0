"""From a PyTorch network to ONNX bytes."""
