"""One classifier for all the threads of a server: python thread_pool.py MODEL PICTURE...

Each thread asks for one picture, as a request handler would. For many pictures at hand, `predict_batch` is faster.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from runtime import Classifier

model, *pictures = sys.argv[1:]
with Classifier(model, device="cpu") as classifier, ThreadPoolExecutor(8) as pool:
    for picture, answer in zip(pictures, pool.map(classifier.predict, pictures), strict=True):
        print(f"{picture}: {answer.label}")
