# One static binary in an empty image, for amd64 and arm64, without emulation.
#
#   docker build .                              compiles in a container
#   docker build --build-arg BIN=prebuilt .     uses dist/<arch>/bms-reader from scripts/build-static
#
# Older BuildKits and buildah must build this too, so no `# syntax=` line, `COPY --link` or here-documents.
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082
ARG BIN=compiled

FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS compiled
ARG TARGETARCH
RUN apt-get -qq update \
 && apt-get -qq install -y --no-install-recommends binutils file make python3-venv >/dev/null
WORKDIR /source
COPY . .
RUN case "$TARGETARCH" in \
        amd64) target=x86_64 ;; \
        arm64) target=aarch64 ;; \
        *) echo "no build for $TARGETARCH" >&2; exit 1 ;; \
    esac \
 && scripts/build-static "$target-unknown-linux-musl" \
 && mkdir -p /out/data \
 && cp "dist/$TARGETARCH/bms-reader" /out/

FROM scratch AS prebuilt
ARG TARGETARCH
WORKDIR /out/data
COPY dist/${TARGETARCH}/bms-reader /out/bms-reader

FROM ${BIN} AS bin

# Runs as root, because root owns the options file of the Home Assistant app. Compose uses 65534.
FROM scratch
ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=
COPY --from=bin --chmod=0755 /out/bms-reader /bms-reader
COPY --from=bin --chown=65534:65534 /out/data /data
ENV DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket \
    HTTP_LISTEN=0.0.0.0:8099
EXPOSE 8099
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["/bms-reader", "healthcheck"]
ENTRYPOINT ["/bms-reader"]
LABEL org.opencontainers.image.title="bms-reader" \
      org.opencontainers.image.description="Reads battery management systems and publishes them to MQTT and Home Assistant" \
      org.opencontainers.image.url="https://github.com/bms-reader/bms-reader" \
      org.opencontainers.image.documentation="https://github.com/bms-reader/bms-reader#readme" \
      org.opencontainers.image.source="https://github.com/bms-reader/bms-reader" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      io.hass.type="app" \
      io.hass.name="BMS Reader" \
      io.hass.description="Battery management systems in MQTT and Home Assistant" \
      io.hass.url="https://github.com/bms-reader/bms-reader" \
      io.hass.version="${VERSION}" \
      io.hass.arch="aarch64|amd64"
