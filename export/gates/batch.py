"""Gate: any number of images gives what each of them gives alone. Exporters freeze the batch without saying so."""

import numpy as np

from export.subject import Finding, GateFailure, Subject
from runtime import contract

SIZES = (1, 2, 3, 7, 64, 257)


def batch(subject: Subject) -> Finding:
    symbols = {
        dim.dim_param
        for info in [*subject.model.graph.input, *subject.model.graph.output, *subject.model.graph.value_info]
        for dim in info.type.tensor_type.shape.dim
        if dim.dim_param
    }
    if symbols != {contract.BATCH}:
        raise GateFailure(f"the only symbolic dimension should be 'batch', but the graph has {sorted(symbols)}")
    for info in subject.model.graph.value_info:
        dims = info.type.tensor_type.shape.dim
        if not dims or dims[0].dim_param != contract.BATCH:
            raise GateFailure(f"the first dimension of {info.name!r} should be 'batch', but is fixed")
    images = np.resize(subject.images, (max(SIZES), *subject.images.shape[1:]))
    session = subject.opened.session
    one_by_one = np.concatenate([session.run([contract.LOGITS], {contract.INPUT: image[None]})[0] for image in images])
    tolerance = subject.tolerance[contract.LOGITS]
    worst = 0.0
    for size in SIZES:
        try:
            (together,) = session.run([contract.LOGITS], {contract.INPUT: images[:size]})
        except Exception as error:  # onnxruntime's errors share no base class
            raise GateFailure(f"a batch of {size} fails: {' '.join(str(error).split())}") from error
        if together.shape != one_by_one[:size].shape:
            raise GateFailure(f"a batch of {size} should give {one_by_one[:size].shape}, but gives {together.shape}")
        difference = float(np.abs(together - one_by_one[:size]).max())
        if not difference <= tolerance:
            raise GateFailure(
                f"in a batch of {size} the logits differ from one by one by {difference:.3g}, more than {tolerance:.3g}"
            )
        worst = max(worst, difference)
    return Finding(
        f"batches of {', '.join(map(str, SIZES))} equal one by one within {worst:.2g}", {"max_abs_diff": worst}
    )
