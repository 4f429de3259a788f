# Two images: `docker build --target worker .` (no torch) and `docker build --target learner .`, which
# runs on a GPU with `--build-arg TORCH=cu128`. docs/containers.md says how they are used.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS base
RUN useradd --create-home --uid 1000 iqlft
ENV PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE

FROM base AS worker
WORKDIR /src
COPY workers workers
RUN pip install --no-cache-dir ./workers
USER 1000
WORKDIR /home/iqlft
ENTRYPOINT ["iqlft-worker"]

FROM base AS learner
ARG TORCH=cpu
RUN pip install --no-cache-dir "torch>=2.11,<2.14" --index-url "https://download.pytorch.org/whl/${TORCH}"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY workers workers
COPY iqlft iqlft
RUN pip install --no-cache-dir . && mkdir /srv/iqlft && chown iqlft /srv/iqlft
USER 1000
WORKDIR /srv/iqlft
ENV MINARI_DATASETS_PATH=/srv/iqlft/datasets
ENTRYPOINT ["iqlft"]
