"""The server: the Open Inference Protocol, pictures and a page over HTTP. Nothing of the runtime imports it.

It needs the extra `serve`: starlette finds the route, uvicorn speaks HTTP, orjson writes, prometheus-client counts. A
request goes through these files in this order:

    connection   bytes to a request; what is too long, too slow or no HTTP is refused here
    app          which answer is asked for
    bodies       the whole body, within limits
    pictures     `POST /predict`       } a job each
    inference    `/v2/models/M/infer`  }
    batcher      jobs that wait at the same time become one batch
    served       one batch: decode, run, answer, in a thread

An error is a `Refusal`: a status and one sentence, sent as `{"error": sentence}`.
"""
