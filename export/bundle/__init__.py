"""The artifact: the folder with the ONNX file and everything beside it."""
