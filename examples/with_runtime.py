"""Name what is in pictures of any size and kind: python with_runtime.py MODEL PICTURE..."""

import sys

from runtime import Classifier, ImageError

model, *pictures = sys.argv[1:]
with Classifier(model, device="auto") as classifier:
    answers = classifier.stream(pictures, return_errors=True)  # one bad picture does not stop the others
    for picture, answer in zip(pictures, answers, strict=True):
        print(answer if isinstance(answer, ImageError) else f"{picture}: {answer.label}")
