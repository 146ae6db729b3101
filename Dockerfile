# The images of a network: four kinds of rig, and the relay for an own server.
#
#   docker build --target rig-cpu    -t localhost/heliograph/rig-cpu:0.1.0 .
#   docker build --target rig-vulkan -t localhost/heliograph/rig-vulkan:0.1.0 .
#   docker build --target rig-cuda   -t localhost/heliograph/rig-cuda:0.1.0 .
#   docker build --target rig-rocm   -t localhost/heliograph/rig-rocm:0.1.0 .
#   docker build --target relay      -t localhost/heliograph/relay:0.1.0 .
#
# BuildKit is needed (DOCKER_BUILDKIT=1 for old engines): only the stages that a target needs are run.
# docs/images.md says what each target holds, how to run it, and what of it has never been built.

# The one public image that everything comes from. A tag moves; pin it with
# `--build-arg DEBIAN_IMAGE=debian@sha256:…` of the day on which you tested it.
ARG DEBIAN_IMAGE=debian:bookworm-slim
# `compiled`: everything is compiled in stages of this file. `prebuilt`: it is copied from build/prebuilt, where
# `cargo xtask prebuilt` laid it out on a machine with the same distribution.
ARG ARTEFACTS=compiled
ARG VERSION=0.1.0
ARG REVISION=unknown

# ── Compiling ────────────────────────────────────────────────────────────────────────────────────────────────────────

FROM ${DEBIAN_IMAGE} AS rust
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl gcc libc6-dev \
    && update-ca-certificates \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
# rust-toolchain.toml says which compiler; rustup fetches it.
ARG RUSTUP=https://static.rust-lang.org/rustup/archive/1.28.2/x86_64-unknown-linux-gnu/rustup-init
ARG RUSTUP_SHA256=20a06e644b0d9bd2fbdbfd52d42540bdde820ea7df86e92e533c073da0cdd43c
ENV PATH=/root/.cargo/bin:$PATH
WORKDIR /heliograph
COPY rust-toolchain.toml .
RUN curl --proto '=https' -fsSLo /tmp/rustup-init "$RUSTUP" \
    && echo "$RUSTUP_SHA256  /tmp/rustup-init" | sha256sum -c \
    && chmod +x /tmp/rustup-init \
    && /tmp/rustup-init -y --no-modify-path --profile minimal --default-toolchain none \
    && rm /tmp/rustup-init \
    && rustup toolchain install

# Clang and not GCC: Debian's GCC 12.2 miscompiles llama.cpp's AMX kernels.
FROM rust AS compilers
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        clang-19 cmake g++ git libclang-19-dev libomp-19-dev make pkg-config \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
ENV CC=clang-19 CXX=clang++-19 LIBCLANG_PATH=/usr/lib/llvm-19/lib

# One compilation serves two images: back-ends are libraries that the rig loads where they are of use, so the CPU's image
# is this one without Vulkan's.
FROM compilers AS compile-rig
RUN apt-get update \
    && apt-get install -y --no-install-recommends glslc libvulkan-dev spirv-headers \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
# llama.cpp wants younger headers than bookworm's (VK_EXT_layer_settings). They are the next release's; nothing of them is
# linked, the library that is loaded is bookworm's.
ARG VULKAN_HEADERS=http://deb.debian.org/debian/pool/main/v/vulkan-loader/libvulkan-dev_1.4.309.0-1_amd64.deb
ARG VULKAN_HEADERS_SHA256=8d329d465e16168afff58b1bd0dd6db46aac2cc3f56054a481b25a04e90b345a
RUN curl -fsSLo /tmp/headers.deb "$VULKAN_HEADERS" \
    && echo "$VULKAN_HEADERS_SHA256  /tmp/headers.deb" | sha256sum -c \
    && dpkg-deb -x /tmp/headers.deb /tmp/headers \
    && rm -r /usr/include/vulkan /usr/include/vk_video \
    && cp -r /tmp/headers/usr/include/vulkan /tmp/headers/usr/include/vk_video /usr/include/ \
    && rm -r /tmp/headers /tmp/headers.deb
COPY . .
RUN --mount=type=cache,target=/root/.cargo/registry,sharing=locked \
    --mount=type=cache,target=/root/.cache/heliograph,id=heliograph-rig,sharing=locked \
    CI=true cargo xtask prebuilt rig --backend vulkan

FROM compilers AS compile-cuda
# The tool kit of NVIDIA's own repository, since Debian's is too old for today's cards.
ARG CUDA_KEYRING=https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/cuda-keyring_1.1-1_all.deb
ARG CUDA=12-9
RUN curl --proto '=https' -fsSLo /tmp/keyring.deb "$CUDA_KEYRING" \
    && dpkg -i /tmp/keyring.deb \
    && apt-get update \
    && apt-get install -y --no-install-recommends \
        cuda-nvcc-$CUDA cuda-cudart-dev-$CUDA cuda-driver-dev-$CUDA libcublas-dev-$CUDA \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /tmp/keyring.deb
# The driver's own library is the host's and comes with the card; the tool kit's stand-in is enough to link.
ENV PATH=/usr/local/cuda/bin:$PATH CUDA_PATH=/usr/local/cuda CUDAHOSTCXX=clang++-19 \
    LIBRARY_PATH=/usr/local/cuda/lib64/stubs
COPY . .
RUN --mount=type=cache,target=/root/.cargo/registry,sharing=locked \
    --mount=type=cache,target=/root/.cache/heliograph,id=heliograph-cuda,sharing=locked \
    CI=true cargo xtask prebuilt rig --backend cuda

FROM compilers AS compile-rocm
# AMD names the repository of Ubuntu 22.04 for Debian 12.
ARG ROCM=6.4.1
RUN curl --proto '=https' -fsSL https://repo.radeon.com/rocm/rocm.gpg.key -o /etc/apt/keyrings/rocm.asc \
    && echo "deb [arch=amd64 signed-by=/etc/apt/keyrings/rocm.asc] https://repo.radeon.com/rocm/apt/$ROCM jammy main" \
        > /etc/apt/sources.list.d/rocm.list \
    && apt-get update \
    && apt-get install -y --no-install-recommends hip-dev hipblas-dev rocblas-dev rocm-device-libs rocm-llvm \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/rocm/bin:$PATH ROCM_PATH=/opt/rocm HIP_PATH=/opt/rocm HIPCXX=/opt/rocm/llvm/bin/clang++
COPY . .
RUN --mount=type=cache,target=/root/.cargo/registry,sharing=locked \
    --mount=type=cache,target=/root/.cache/heliograph,id=heliograph-rocm,sharing=locked \
    CI=true cargo xtask prebuilt rig --backend rocm

FROM rust AS compile-relay
RUN apt-get update \
    && apt-get install -y --no-install-recommends gzip python3 python3-venv util-linux \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
COPY . .
RUN --mount=type=cache,target=/root/.cargo/registry,sharing=locked \
    --mount=type=cache,target=/root/.cache/heliograph,id=heliograph-relay,sharing=locked \
    CI=true cargo xtask prebuilt relay

# ── Where the results come from ──────────────────────────────────────────────────────────────────────────────────────

FROM scratch AS rig-compiled
COPY --from=compile-rig /heliograph/build/prebuilt/rig /rig
COPY --from=compile-rig /heliograph/build/prebuilt/rig-gpu /rig-gpu
FROM scratch AS rig-prebuilt
COPY build/prebuilt/rig /rig
COPY build/prebuilt/rig-gpu /rig-gpu
FROM rig-${ARTEFACTS} AS rig

FROM scratch AS cuda-compiled
COPY --from=compile-cuda /heliograph/build/prebuilt/rig /rig
COPY --from=compile-cuda /heliograph/build/prebuilt/rig-gpu /rig-gpu
FROM rig-prebuilt AS cuda-prebuilt
FROM cuda-${ARTEFACTS} AS cuda

FROM scratch AS rocm-compiled
COPY --from=compile-rocm /heliograph/build/prebuilt/rig /rig
COPY --from=compile-rocm /heliograph/build/prebuilt/rig-gpu /rig-gpu
FROM rig-prebuilt AS rocm-prebuilt
FROM rocm-${ARTEFACTS} AS rocm

FROM scratch AS relay-compiled
COPY --from=compile-relay /heliograph/build/prebuilt/relay /relay
FROM scratch AS relay-prebuilt
COPY build/prebuilt/relay /relay
FROM relay-${ARTEFACTS} AS relay-artefacts

# ── What runs ────────────────────────────────────────────────────────────────────────────────────────────────────────

# Certificates, C++ and TLS (OpenMP's library lies beside the rig, since its package brings all of LLVM); and an account
# of its own, with a number that a host can be told about: files in volumes belong to it.
FROM ${DEBIAN_IMAGE} AS runtime
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libgcc-s1 libssl3 libstdc++6 \
    && update-ca-certificates \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 heliograph \
    && useradd --uid 10001 --gid heliograph --no-create-home --home-dir /tmp --shell /usr/sbin/nologin heliograph
# HOME is what libraries write caches to; /tmp is a tmpfs where the root is read-only.
ENV HOME=/tmp
WORKDIR /tmp
STOPSIGNAL SIGTERM
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="debian:bookworm-slim"

# What every rig has: a folder for models that belongs to the account, so that a new volume there does too.
FROM runtime AS rig-runtime
RUN install -d -o heliograph -g heliograph -m 0755 /var/cache/heliograph
ENV XDG_CACHE_HOME=/var/cache HELIOGRAPH_METRICS_PORT=9464
VOLUME /var/cache/heliograph
USER 10001:10001
ENTRYPOINT ["/opt/heliograph/rig"]
# The first start may download a model; until a health check succeeds the container is "starting", not unhealthy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=12h --retries=3 CMD ["/opt/heliograph/rig", "health"]
LABEL org.opencontainers.image.title="Heliograph rig" \
      org.opencontainers.image.description="Serves language models with llama.cpp to a Heliograph relay" \
      network.heliograph.sbom="/opt/heliograph/contents.cdx.json"

FROM rig-runtime AS rig-cpu
COPY --from=rig /rig /opt/heliograph
LABEL network.heliograph.gpu="cpu"

# Mesa brings the drivers of AMD's and Intel's cards; NVIDIA's comes from the host with the card.
FROM rig-runtime AS rig-vulkan
USER root
RUN apt-get update \
    && apt-get install -y --no-install-recommends libvulkan1 mesa-vulkan-drivers \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
COPY --from=rig /rig /opt/heliograph
COPY --from=rig /rig-gpu /opt/heliograph
RUN test -f /opt/heliograph/libggml-vulkan.so
USER 10001:10001
# Compiled shaders are kept with the models: compiling them takes longer than loading a model.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics MESA_SHADER_CACHE_DIR=/var/cache/heliograph/shaders
LABEL network.heliograph.gpu="vulkan"

FROM rig-runtime AS rig-cuda
USER root
ARG CUDA_KEYRING=https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/cuda-keyring_1.1-1_all.deb
ARG CUDA=12-9
ADD ${CUDA_KEYRING} /tmp/keyring.deb
RUN dpkg -i /tmp/keyring.deb \
    && apt-get update \
    && apt-get install -y --no-install-recommends cuda-cudart-$CUDA libcublas-$CUDA \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /tmp/keyring.deb
COPY --from=cuda /rig /opt/heliograph
COPY --from=cuda /rig-gpu /opt/heliograph
RUN test -f /opt/heliograph/libggml-cuda.so
USER 10001:10001
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
LABEL network.heliograph.gpu="cuda"

FROM rig-runtime AS rig-rocm
USER root
ARG ROCM=6.4.1
ADD https://repo.radeon.com/rocm/rocm.gpg.key /etc/apt/keyrings/rocm.asc
RUN chmod 644 /etc/apt/keyrings/rocm.asc \
    && echo "deb [arch=amd64 signed-by=/etc/apt/keyrings/rocm.asc] https://repo.radeon.com/rocm/apt/$ROCM jammy main" \
        > /etc/apt/sources.list.d/rocm.list \
    && apt-get update \
    && apt-get install -y --no-install-recommends hip-runtime-amd hipblas rocblas \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
COPY --from=rocm /rig /opt/heliograph
COPY --from=rocm /rig-gpu /opt/heliograph
RUN test -f /opt/heliograph/libggml-hip.so
USER 10001:10001
LABEL network.heliograph.gpu="rocm"

FROM runtime AS relay
RUN install -d -o heliograph -g heliograph -m 0700 /var/lib/heliograph
COPY --from=relay-artefacts /relay /opt/heliograph/relay
COPY --chmod=0755 docker/relay-start docker/relay-health /opt/heliograph/relay/
VOLUME /var/lib/heliograph
EXPOSE 8787
USER 10001:10001
ENTRYPOINT ["/opt/heliograph/relay/relay-start"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/opt/heliograph/relay/relay-health"]
LABEL org.opencontainers.image.title="Heliograph relay" \
      org.opencontainers.image.description="The Heliograph relay under plain workerd, for an own server" \
      network.heliograph.sbom="/opt/heliograph/relay/contents.cdx.json"
