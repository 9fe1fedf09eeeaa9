# The server in an image: `docker build --tag wow .`
#
#   docker run --read-only --cap-drop ALL --publish 7777:7777 wow
#
# It runs as user and group 65532, with a root file system that may be read-only. Two places are mounts:
#   /var/lib/wow   writable: what was redeemed (spent.url) is kept in it. A volume of its own, if you give none.
#   /etc/wow       your configuration, as wow.yaml; what is there otherwise is etc/wow.yaml.
# Secrets are best given as files that user or group 65532 alone may read: see keys.file.
#
# Another base image: --build-arg BASE=... It needs Python 3.11 or later with venv and pip, on a system like Debian.
# A package index of your own, or its certificate: --secret id=pip.conf,src=/etc/pip.conf

ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build

# Without pip, so that it is in the image only if the base has it.
RUN python3 -m venv --without-pip /opt/wow
WORKDIR /src
COPY setup.cfg setup.py pyproject.toml README.md LICENSE ./
COPY wow wow
COPY twisted twisted
# Wheels only: nothing is compiled, here or later.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && python3 -m pip --python /opt/wow/bin/python install --no-cache-dir --only-binary :all: /wheels/wow-*.whl

FROM ${BASE}

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="wow" \
      org.opencontainers.image.description="A price on asking: proof of work in front of a TCP service" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/wow /opt/wow
COPY etc/wow.yaml /etc/wow/wow.yaml
ENV PATH=/opt/wow/bin:$PATH
# twistd keeps a list of its plugins beside them, which only root can write there.
RUN twistd --help > /dev/null \
    && install --directory --owner 65532 --group 65532 --mode 0700 /var/lib/wow

USER 65532:65532
WORKDIR /var/lib/wow
VOLUME /var/lib/wow
EXPOSE 7777 7778

# Whether it lives, not whether it is ready: Swarm replaces what is unhealthy, and a server that waits for its spent
# store, or drains, must not be. A balancer asks /health/ready itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["wow", "health", "--live"]

# The server is process 1 itself, so it gets the signals: SIGTERM drains it and it exits with 0, SIGHUP reloads it.
ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "wow"]
CMD ["--config", "/etc/wow/wow.yaml"]
