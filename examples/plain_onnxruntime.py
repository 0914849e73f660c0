"""Name what is in pictures with onnxruntime alone, without this package: python plain_onnxruntime.py MODEL.onnx PNG...

The pictures must be what the network takes: 28x28, grey, a light garment on black.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, *pictures = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
metadata = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
assert metadata["input"]["shape"] == ["batch", 1, 28, 28], metadata["input"]
pixels = np.stack([np.asarray(Image.open(picture).convert("L")) for picture in pictures])[:, None]
(probabilities,) = session.run(["probabilities"], {"image": pixels})
for picture, row in zip(pictures, probabilities, strict=True):
    print(f"{picture}: {metadata['labels'][row.argmax()]} {row.max():.1%}")
