# A broker in a container; README.md, "Container", tells how to run it. tests/clients/test_image.py executes the last stage
# without a container engine: it reads the instructions below, so keep to their forms (exec form, NAME=VALUE).

# The Rust that Cargo.toml asks for, on the Debian of the last stage: a program needs the C library that it was linked with,
# or a newer one.
FROM rust:1.95.0-bookworm AS build
WORKDIR /build
# Dependencies first, under an empty program: this layer holds until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
# The load harness is part of the workspace, and not of the image: it is never built.
COPY load/Cargo.toml load/
RUN mkdir src load/src && touch src/lib.rs && echo 'fn main() {}' | tee load/src/main.rs >src/main.rs && cargo build --release --locked
# The samples are compiled in, for `ficus dev`.
COPY config config
COPY src src
# Copied files keep their times, and cargo would take older ones for what it has just built.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked

FROM debian:bookworm-slim
# Public roots, to fetch issuers' keys. The only folder that is ever written belongs to the user below, and the volume
# takes owner and mode from here.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/ficus/data
COPY --from=build /build/target/release/ficus /usr/local/bin/ficus
# The same two folders as in the repository, config and data side by side: every default path that is written (keys, the
# self-made CA, the audit log, whatever comes later) is ../data/ from the configuration file, so it is on the volume without
# a setting for each. In /etc/ficus, ../data would be /etc/data.
COPY config /var/lib/ficus/config
WORKDIR /var/lib/ficus
# Absolute, so that `docker exec --workdir` changes nothing. The operations listener is for Prometheus outside the container:
# it is plain HTTP, so publish 8443 alone and scrape over the container's network.
ENV FICUS_CONFIG=/var/lib/ficus/config/ficus.toml \
    FICUS_LISTEN__ADDRESS=0.0.0.0:8443 \
    FICUS_LISTEN__OPS_ADDRESS=0.0.0.0:9464
EXPOSE 8443 9464
VOLUME ["/var/lib/ficus/data"]
# A number, because Kubernetes' runAsNonRoot can't tell what a name stands for.
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["ficus", "health"]
ENTRYPOINT ["ficus"]
CMD ["serve"]
