# An image to train, evaluate and export with. Not tested on Docker.
#   docker build -t keras-googlenet .                          # CPU
#   docker build -t keras-googlenet:gpu --build-arg EXTRAS=gpu .
#   docker run --rm -v "$PWD/data:/data:ro" -v "$PWD/runs:/workspace/runs" keras-googlenet \
#     train --data /data/flowers --run runs/flowers
# Add `--gpus all` for the GPU image: its wheels bring CUDA, and the host needs only the driver and the NVIDIA
# Container Toolkit. To write to a mounted folder that UID 1000 does not own, add `--user "$(id -u):$(id -g)"`.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}

# What OpenCV's wheel needs.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

COPY pyproject.toml README.md LICENSE /source/
COPY keras_googlenet/ /source/keras_googlenet/
COPY serving/ /source/serving/
ARG EXTRAS=serving
RUN pip install --no-cache-dir "/source[${EXTRAS}]"

RUN useradd --uid 1000 --create-home trainer \
    && install --directory --owner=trainer --group=trainer /data /workspace /workspace/runs
ENV HOME=/home/trainer
USER 1000:1000
WORKDIR /workspace
VOLUME ["/data", "/workspace/runs"]

ENTRYPOINT ["keras-googlenet"]
CMD ["--help"]
