"""The server: the Open Inference Protocol, images and a page over HTTP. Nothing else of the runtime imports it.

It needs the extra `serve`: uvicorn speaks HTTP, starlette finds the route and reads forms, prometheus-client counts.
A request goes through these files in this order:

    server          uvicorn, as it comes: bytes to a request
    app             routes, handlers, errors as `{"error": "one sentence"}`
    limits          the whole body, bounded in length and time
    predict         the parameters of `POST /predict`
    open_inference  the body of `POST /v2/models/M/infer`
    models          one model: its batches, run in a thread
    batcher         jobs that wait at the same time become one batch

A request is refused by raising `starlette.exceptions.HTTPException` with a status and one sentence.
"""
