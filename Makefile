# What people type. `make` alone prints this list.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME := 10s
SOAK := 30m
# More flags for go test, for example TESTFLAGS=-v.
TESTFLAGS :=
# The name of the container image, for docker-compose.yml, too.
export DEMS_IMAGE ?= dems
COMPOSE = $(shell if docker compose version >/dev/null 2>&1; then echo docker compose; else echo docker-compose; fi)

.PHONY: help
help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/demsd and bin/demsctl
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/ ./cmd/...

# The programs are compiled here and not in a container, so that no registry is needed, and as for bin/, so that nothing is
# compiled twice. Owner and mode of the folders under volumes are those that the volumes get which are mounted over them.
.PHONY: image
image: ## the container image dems, from programs compiled on this machine
	@rm -rf bin/image
	CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/image/programs/ ./cmd/...
	@mkdir -p -m 700 bin/image/volumes/{authority,data,pki} && chmod 755 bin/image/programs/*
	docker build --quiet --target prebuilt --tag $(DEMS_IMAGE) --file Dockerfile bin/image

.PHONY: up
up: image build ## a cluster in containers, see docs/operations.md; returns once it is ready
	$(COMPOSE) up -d
	$(COMPOSE) exec -T fe1 demsd health frontend --wait 1m
	@echo "ready: http://$$($(COMPOSE) port fe1 8080)"

.PHONY: down
down: ## stop that cluster; its data stays in volumes
	$(COMPOSE) --profile second down

.PHONY: lint
lint: ## formatting, go vet, staticcheck
	@unformatted=$$(gofmt -l .); if [[ -n "$$unformatted" ]]; then echo "not formatted, run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags planted ./...
	go run $(STATICCHECK) ./...
	go run $(STATICCHECK) -tags planted ./fsm ./frontend/... ./internal/planted

# The random tests of fsm, the simulation and the load of drills do a fifth of their work under the race detector, so they run once
# more without it. Then the tests run of the bugs that are planted on purpose, which only the build tag has (internal/planted). The tests of
# real processes measure time, so they get the machine for themselves, after everything else. What they run is not part of the
# test's binary, so an earlier result says nothing (-count=1).
.PHONY: test
test: lint ## lint, every test with the race detector, then the tests of real processes
	go test -race -timeout 5m $(TESTFLAGS) $$(go list ./... | grep -v '^dems/test$$')
	go test -timeout 3m $(TESTFLAGS) ./fsm ./internal/simulation ./client/drill/traffic
	go test -timeout 2m $(TESTFLAGS) -tags planted -run Plant ./fsm ./frontend/... ./internal/planted
	go test -count=1 -timeout 14m $(TESTFLAGS) ./test

.PHONY: race
race: ## the tests with the race detector, without lint and without real processes
	go test -race -timeout 5m $(TESTFLAGS) $$(go list ./... | grep -v '^dems/test$$')

.PHONY: reliability
reliability: ## what docs/reliability.md claims, at full scale, with the figures (takes half an hour)
	DEMS_RELIABILITY=full go test -count=1 -timeout 60m -v $(TESTFLAGS) ./test

.PHONY: soak
soak: ## random failures for SOAK (default 30m): every answer checked, memory and disk watched
	DEMS_SOAK=$(SOAK) go test -count=1 -timeout 25h -v -run '^TestSoak$$' $(TESTFLAGS) ./test

.PHONY: fuzz-short
fuzz-short: ## every fuzz target for FUZZTIME (default 10s)
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' "$$package" | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$package"; \
		done; \
	done

.PHONY: bench
bench: ## every benchmark
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: compare
compare: ## the same bookings in a three-node etcd, see test/compare/README.md
	cd test/compare && go run .

.PHONY: beside
beside: ## DEMS and etcd in turn, five rounds, with ratios (takes five minutes)
	cd test/compare && go run . -rounds 5

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
	go clean -testcache
