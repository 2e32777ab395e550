# The image of DEMS: demsd, demsctl and nothing else. Two ways lead to the same image:
#   docker build .   compiles in a container; needs nothing but Docker and the internet
#   make image       compiles on this machine; needs Go and no registry

# What both images have in common: no shell, no user but an unnamed one, and servers that end by SIGTERM.
FROM scratch AS base
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["demsd"]

# Comes before the stage that compiles, because builders other than BuildKit run every stage up to the one asked for.
FROM base AS prebuilt
COPY programs/ /usr/bin/
COPY --chown=65532:65532 volumes/ /

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /image/programs/ ./cmd/...
# Volumes get owner and mode of the folders that they are mounted over.
RUN mkdir -p -m 700 /image/volumes/authority /image/volumes/data /image/volumes/pki

FROM base
COPY --from=build /image/programs/ /usr/bin/
COPY --from=build --chown=65532:65532 /image/volumes/ /
