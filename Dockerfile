# One image for every process of the platform; what runs is the command, e.g. `python -m services.order.app`.
FROM python:3.11.14-slim-trixie AS build
WORKDIR /build
COPY requirements.lock deploy/image_requirements.py ./
RUN python image_requirements.py requirements.lock > image.lock \
    && python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --require-hashes -r image.lock

FROM python:3.11.14-slim-trixie
# /data is for the simulators' ledgers; nothing else here is ever written.
RUN groupadd --gid 10001 commerce \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin commerce \
    && install -d -o 10001 -g 10001 /data
COPY --from=build /venv /venv
WORKDIR /app
# .dockerignore lets through what the processes need, and nothing else.
COPY . .
RUN python -m compileall -q /app
# Which build of the saga this is, e.g. of a release; empty: it is named after its files.
ARG BUILD_ID=
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0 PORT=8000 TEMPORAL_WORKER_BUILD_ID=$BUILD_ID
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "gateway.app"]
