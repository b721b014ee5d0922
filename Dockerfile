# docker build -t ucs . && docker run --rm -v "$PWD:/data" ucs segment /data/xenium.zarr
FROM python:3.13-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM python:3.13-slim
# For a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir torch --index-url "$TORCH_INDEX" \
    && pip install --no-cache-dir "$(ls /wheels/*.whl)[io,explorer]" \
    && useradd --create-home ucs
USER ucs
WORKDIR /data
ENTRYPOINT ["ucs"]
