"""One classifier for a pool of processes: python process_pool.py MODEL PICTURE...

A classifier pickles as its name and checksum. Shipped once to each process, it opens its own session there; one thread
each, since the processes share the machine. Ray and multiprocessing work alike.
"""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from runtime import Classifier, Prediction

_classifier: Classifier


def start(classifier: Classifier) -> None:
    global _classifier
    _classifier = classifier


def predict(picture: str) -> Prediction:
    return _classifier.predict(picture)


def main() -> None:
    model, *pictures = sys.argv[1:]
    classifier = Classifier(model, device="cpu", threads=1)
    spawn = multiprocessing.get_context("spawn")  # works everywhere, with CUDA too; "fork" works on the CPU
    with ProcessPoolExecutor(2, mp_context=spawn, initializer=start, initargs=(classifier,)) as pool:
        for picture, answer in zip(pictures, pool.map(predict, pictures, chunksize=16), strict=True):
            print(f"{picture}: {answer.label}")


if __name__ == "__main__":
    main()
