# One file, two images: `docker build --target api .` and `docker build --target worker .`. Both hold both frameworks: a
# worker trains in one of them, the API serves from either. Plain Dockerfile syntax only, so every builder can read it.
#
#   --build-arg DEVICE=gpu          JAX with its CUDA plugin, torch with all of its CUDA libraries
#   --build-arg PYTHON_IMAGE=...    another base; anything with Python 3.11 or newer and Debian's useradd
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ARG DEVICE=cpu
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 TANDEM_DATA_DIR=/data TANDEM_LOG_FORMAT=json
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin tandem && \
    mkdir /data && chown tandem:tandem /data
WORKDIR /opt/tandem
COPY requirements.lock requirements-gpu.lock ./
# The lock names every package, so nothing is resolved here. torch from the default index is a CUDA build and does not
# import without most of CUDA's libraries; the CPU image leaves out the few it can do without (1.4 GB).
# Byte code is compiled now because the user who runs this cannot write it.
RUN if [ "$DEVICE" = gpu ]; then cp requirements-gpu.lock wanted; else \
      grep -vE '^(cuda-bindings|cuda-pathfinder|nvidia-cuda-cccl|nvidia-cusolver|nvidia-nvtx|triton)=' \
        requirements.lock > wanted; fi && \
    python3 -m venv /opt/venv && \
    pip install --quiet --no-cache-dir --disable-pip-version-check 'uv>=0.5' && \
    uv pip install --quiet --no-cache --compile-bytecode --no-deps --python /opt/venv/bin/python --requirements wanted && \
    pip uninstall --quiet --yes uv && rm wanted
COPY LICENSE README.md pyproject.toml ./
COPY models models
COPY workers workers
COPY app app
RUN pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps . && tandem --help >/dev/null
USER tandem
WORKDIR /home/tandem
VOLUME /data
STOPSIGNAL SIGTERM

FROM base AS api
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["tandem", "api", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS worker
ENV TANDEM_FRAMEWORK=torch
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 \
    CMD ["sh", "-c", "exec tandem worker --framework \"$TANDEM_FRAMEWORK\" --check"]
CMD ["sh", "-c", "exec tandem worker --framework \"$TANDEM_FRAMEWORK\""]
