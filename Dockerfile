# The gateway alone, for a PostgreSQL of yours: the image holds no PostgreSQL, so DATABASE_URL must be given.
#
#   docker build -t tidegate .
#   docker run -e DATABASE_URL=postgres://… -e TIDEGATE_ADMIN_PASSWORD=… -v tidegate:/var/lib/tidegate \
#              -p 127.0.0.1:8000:8000 --stop-timeout 40 tidegate
#
# The history stays outside, so `tidegate --version` names a commit only where the build is told:
# --build-arg TIDEGATE_COMMIT="$(git describe --always --dirty --exclude '*')"

FROM node:22-bookworm-slim AS web
WORKDIR /src
COPY dashboards/web/package.json dashboards/web/package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY dashboards/web ./
RUN npm run build

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
COPY --from=web /src/dist dashboards/web/dist
ARG TIDEGATE_COMMIT
RUN cargo build --release --locked --bin tidegate

FROM debian:12-slim
# curl is for the health check below and for a look around; without certificates polling jobs could not ask by https.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/tidegate --shell /usr/sbin/nologin tidegate \
    && install -d -o tidegate -g tidegate -m 0700 /var/lib/tidegate
COPY --from=build /src/target/release/tidegate /usr/local/bin/tidegate

USER tidegate
WORKDIR /var/lib/tidegate
# The journal: what is acknowledged and not yet in PostgreSQL lives here. One container a volume.
VOLUME /var/lib/tidegate
ENV TIDEGATE_DATA_DIR=/var/lib/tidegate \
    TIDEGATE_LISTEN=0.0.0.0:8000
EXPOSE 8000

# Alive, not ready: a gateway whose PostgreSQL is away still takes records, and a restart would not help it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:8000/healthz"]

# The process gets TERM itself and drains for TIDEGATE_SHUTDOWN_SECONDS (25): allow it more before the kill.
ENTRYPOINT ["tidegate"]
CMD ["serve"]
