"""Name millions of pictures on a Ray cluster: python ray_batch.py MODEL PICTURES RESULTS [--workers N]

PICTURES and RESULTS are folders, or addresses such as s3://bucket/shoes. RESULTS fills with Parquet files, one row a
picture: source, label, index, confidence, and for one that cannot be read, error_kind and error_message.

The first start lists the pictures and cuts the list into shards; each shard becomes one file, named by its number. So a
shard that is done twice, because its worker died or the whole job was started again, is still one file: nothing is
lost, nothing is there twice. A second start does the shards that have no file yet.
"""

import argparse
import hashlib
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from pyarrow import fs

from runtime import Classifier, ImageError
from runtime.imaging.load import SUFFIXES
from runtime.model.registry import find_model

SHARD = 500  # pictures: some seconds of work, all that a dead worker costs
SOURCES = "_sources.parquet"  # readers of Parquet folders pass over names with an underscore
SCHEMA = pa.schema(
    {
        "source": pa.string(),
        "label": pa.string(),
        "index": pa.int64(),
        "confidence": pa.float64(),
        "error_kind": pa.string(),
        "error_message": pa.string(),
    }
)


class Score:
    """A worker. It opens its classifier once, where the device is; `sha256` is of the file that the job began with."""

    def __init__(self, model: str, sha256: str, device: str, pictures: str, results: str) -> None:
        if checksum(model) != sha256:
            raise RuntimeError(f"{model} is another file on this machine than where the job was started")
        self.classifier = Classifier(model, device=device, threads=1)
        self.pictures, _ = opened(pictures)
        self.results, self.folder = opened(results)

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[int]]:
        """Score the one shard of a batch, write its file, and answer with its number and size."""
        (shard,), (sources,) = batch["shard"].tolist(), batch["sources"]
        local = isinstance(self.pictures, fs.LocalFileSystem)
        files = [source if local else Remote(self.pictures, source) for source in sources]
        answers = list(self.classifier.stream(files, topk=1, return_errors=True))
        for file in files:
            if isinstance(file, Remote) and file.failure is not None:
                raise file.failure  # the bucket's fault, not the picture's: another start tries the shard again
        rows = [row(source, answer) for source, answer in zip(sources, answers, strict=True)]
        write(pa.Table.from_pylist(rows, SCHEMA), self.results, f"{self.folder}/{part(shard)}")
        return {"shard": [shard], "pictures": [len(rows)]}


class Remote:
    """A picture in a bucket: read when, and in the thread in which, it is decoded."""

    def __init__(self, system: fs.FileSystem, path: str) -> None:
        self.system, self.path = system, path
        self.failure: OSError | None = None

    def read(self, size: int) -> bytes:
        try:
            with self.system.open_input_stream(self.path) as stream:
                return stream.read(size)
        except FileNotFoundError:  # it was deleted since: that is an answer
            raise
        except OSError as error:
            self.failure = error
            raise


def checksum(model: str) -> str:
    """What tells one model of this name from another."""
    return hashlib.sha256(find_model(model).read()).hexdigest()


def row(source: str, answer: Any) -> dict[str, Any]:
    if isinstance(answer, ImageError):
        return {"source": source, "error_kind": answer.kind, "error_message": str(answer)}
    return {"source": source, "label": answer.label, "index": answer.index, "confidence": answer.confidence}


def part(shard: int) -> str:
    return f"part-{shard:06}.parquet"


def opened(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address, and the path in it."""
    return fs.FileSystem.from_uri(address if "://" in address else os.path.abspath(address))


def write(table: pa.Table, system: fs.FileSystem, path: str) -> None:
    """Write under another name first, so that a file is there whole or not at all."""
    folder, name = path.rsplit("/", 1)
    unfinished = f"{folder}/_unfinished-{os.getpid()}-{name}"
    pq.write_table(table, unfinished, filesystem=system)
    system.move(unfinished, path)


def listed(model: str, pictures: str, results: str) -> list[str]:
    """The pictures, in the order of the first start: shards are cut from this. Another job's results are refused."""
    system, folder = opened(results)
    system.create_dir(folder)
    path = f"{folder}/{SOURCES}"
    where = pictures if "://" in pictures else os.path.abspath(pictures)
    job = {b"model": model.encode(), b"sha256": checksum(model).encode(), b"pictures": where.encode()}
    if system.get_file_info(path).type == fs.FileType.NotFound:
        here, root = opened(pictures)
        found = [f for f in here.get_file_info(fs.FileSelector(root, recursive=True)) if f.is_file]
        paths = sorted(f.path for f in found if f".{f.extension.lower()}" in SUFFIXES)
        write(pa.table({"source": pa.array(paths, pa.string())}).replace_schema_metadata(job), system, path)
    table = pq.read_table(path, filesystem=system)
    if table.schema.metadata != job:
        raise SystemExit(f"{results} belongs to another job, {table.schema.metadata}; name a new folder for {job}")
    return table["source"].to_pylist()


def score(model: str, pictures: str, results: str, workers: int, gpus: float) -> int:
    """Score the shards that have no file yet; return how many pictures they held."""
    sources = listed(model, pictures, results)
    system, folder = opened(results)
    done = {file.base_name for file in system.get_file_info(fs.FileSelector(folder))}
    todo = [
        {"shard": number, "sources": sources[start : start + SHARD]}
        for number, start in enumerate(range(0, len(sources), SHARD))
        if part(number) not in done
    ]
    if not todo:
        return 0
    scored = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        Score,
        fn_constructor_args=(model, checksum(model), "cuda" if gpus else "cpu", pictures, results),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=gpus,
    )
    return sum(batch["pictures"].sum() for batch in scored.iter_batches())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pictures")
    parser.add_argument("results")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpus-per-worker", type=float, default=0)
    given = parser.parse_args()
    count = score(given.model, given.pictures, given.results, given.workers, given.gpus_per_worker)
    print(f"{count} pictures scored into {given.results}")
