# A scan in a container: docker build -t bladescan .
# With PyTorch for NVIDIA GPUs: docker build --build-arg VARIANT=cuda -t bladescan:cuda .
ARG PYTHON_IMAGE=python:3.13-slim-trixie
ARG VARIANT=cpu

FROM ${PYTHON_IMAGE} AS variant-cpu
ENV BLADESCAN_EXTRAS="buckets,heif,parquet,provenance"

# The CUDA libraries come with torch; the driver comes from the host (docker run --gpus all).
FROM ${PYTHON_IMAGE} AS variant-cuda
ENV BLADESCAN_EXTRAS="buckets,heif,parquet,provenance,train" \
    NVIDIA_VISIBLE_DEVICES="all" \
    NVIDIA_DRIVER_CAPABILITIES="compute,utility"

# hadolint ignore=DL3006
FROM variant-${VARIANT} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY .ci/constraints.txt .ci/constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY man man
COPY recipes recipes
COPY backends backends
COPY bladescan bladescan
RUN python -m venv /opt/bladescan \
    && /opt/bladescan/bin/pip install --no-cache-dir --constraint .ci/constraints.txt ".[${BLADESCAN_EXTRAS}]"

# hadolint ignore=DL3006
FROM variant-${VARIANT}
LABEL org.opencontainers.image.title="bladescan" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/bladescan /opt/bladescan
# The root file system may be read-only: what is temporary goes to /tmp, outputs to what you mount.
ENV PATH="/opt/bladescan/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE="1" \
    HOME="/tmp"
WORKDIR /data
USER 10001:10001
ENTRYPOINT ["bladescan"]
CMD ["--help"]
