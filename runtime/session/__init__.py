"""onnxruntime sessions on the device that was asked for."""
