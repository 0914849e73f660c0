# `runtime serve` and nothing else: no PyTorch, no repository, a user without rights.
#
#   docker build -t fashion-zoo .
#   docker run --rm -p 8000:8000 fashion-zoo                     what `runtime serve` takes may follow: -m lenet --cors '*'
#
# It needs the package index while it is built, and no network afterwards. tests/deploy/test_container.py runs its commands.
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY runtime runtime
COPY export export
COPY zoo zoo
COPY weights weights
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
# The CPU's onnxruntime takes a fifth of the place of the one that is also for GPUs, which the package asks for.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(ls /wheels/*.whl)[serve]" \
    && if pip uninstall --yes onnxruntime-gpu; then pip install --no-cache-dir onnxruntime; fi \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin zoo
ENV PORT=8000 ZOO_HOME=/tmp/fashion-zoo PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/v2/health/ready', timeout=2)"]
ENTRYPOINT ["sh", "-c", "exec runtime serve --host 0.0.0.0 --port \"$PORT\" \"$@\"", "serve"]
