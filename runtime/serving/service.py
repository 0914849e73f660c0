"""All that a running server holds: models, limits, counters, and the threads that decode."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from runtime.classifier import Classifier
from runtime.device import available_cpus
from runtime.errors import UsageError, quoted
from runtime.serving.admission import Admission
from runtime.serving.limits import Limits
from runtime.serving.metrics import Metrics
from runtime.serving.refusal import Refusal
from runtime.serving.served import ServedModel

T = TypeVar("T")


class Service:
    """What requests are answered from.

    Args:
        classifiers: the models, open; the first is the one that a picture without a model's name is for.
        limits: how much to take on.

    Attributes:
        models: by name.
        stopping: whether the server has been told to stop; it is then no longer ready.

    Raises:
        UsageError: no model, or two of one name.
    """

    def __init__(self, classifiers: Sequence[Classifier], limits: Limits) -> None:
        self.limits = limits
        self.metrics = Metrics()
        self.admission = Admission(limits)
        self.stopping = False
        self.models: dict[str, ServedModel] = {}
        for classifier in classifiers:
            if classifier.name in self.models:
                raise UsageError(f"two models are called {classifier.name!r}; serve one of them, or rename the other")
            self.models[classifier.name] = ServedModel(classifier, limits, self.metrics.batches(classifier.name))
        if not self.models:
            raise UsageError("there is no model to serve; name at least one")
        self._aside = ThreadPoolExecutor(available_cpus(), thread_name_prefix="decode")

    @property
    def ready(self) -> bool:
        """Whether every model is warm, and the server is not being stopped."""
        return not self.stopping and all(model.ready for model in self.models.values())

    def model(self, name: str | None) -> ServedModel:
        """Return a model by name, or the first.

        Raises:
            Refusal: 404, there is none of that name.
        """
        if name is None:
            return next(iter(self.models.values()))
        found = self.models.get(name)
        if found is None:
            raise Refusal(404, f"the model {quoted(name)} is not served here; served are {', '.join(self.models)}")
        return found

    def warm_model(self, name: str | None) -> ServedModel:
        """Return a model that may be asked.

        Raises:
            Refusal: 404, there is none of that name; 503, it is being warmed up.
        """
        model = self.model(name)
        if not model.ready:
            raise Refusal(503, f"{model.name} is being warmed up; try again")
        return model

    def warm_up(self) -> None:
        """Warm every model, one after the other; takes seconds for a large one."""
        for model in self.models.values():
            model.warm_up()

    async def aside(self, work: Callable[..., T], *arguments: object) -> T:
        """Return `work(*arguments)`, done in a thread: what would keep the event loop from other requests."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, functools.partial(work, *arguments))

    def close(self) -> None:
        """Start nothing more; what is running is not waited for."""
        self._aside.shutdown(wait=False, cancel_futures=True)
        for model in self.models.values():
            model.close()
