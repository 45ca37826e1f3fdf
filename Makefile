# The cache holds what is built once and is no part of the checkout: the linter
# and the real servers that tests and benchmarks compare with.
WEIR_CACHE ?= $(HOME)/.cache/weir
export WEIR_CACHE

GO       ?= go
ROUNDS   ?= 50
FUZZTIME ?= 30s
RELEASE  := $(shell git describe --tags --exact-match 2>/dev/null)

LINT_VERSION := v2.15.0
LINT         := $(WEIR_CACHE)/tools/golangci-lint-$(LINT_VERSION)/golangci-lint

# CPU profiles of weir under the loads rw1, rw2 and otlp of bench, merged. With it
# the compiler inlines what is hot: 8 % less CPU a sample. Not called default.pgo,
# since then every test would compile all dependencies a second time.
PROFILE := cmd/weir/weir.pgo

# What `make gen` writes.
GENERATED := docs/configuration.md $(wildcard docs/metrics.md)

.DEFAULT_GOAL := help

.PHONY: help
help: ## print this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Run

.PHONY: run
run: build ## build and serve on 127.0.0.1:9480 with the defaults, data in ./data
	./bin/weir serve

.PHONY: demo
demo: peers ## run Weir with a pair of real Prometheus servers and an OTel program; Ctrl-C ends all
	$(GO) build -o bin/demo ./e2e/demo
	./bin/demo -peers "$$(scripts/peers.sh --dir)"

##@ Test

.PHONY: test
test: ## vet and run every test that takes seconds; needs nothing but Go
	$(GO) vet ./...
	$(GO) test ./...

.PHONY: race
race: ## run the tests under the race detector
	scripts/setup.sh gcc=gcc
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...

.PHONY: lint
lint: $(LINT) ## run golangci-lint; .golangci.yml gives the reason of each rule
	$(LINT) run ./...

.PHONY: fuzz
fuzz: ## fuzz each target for FUZZTIME (30s)
	scripts/fuzz.sh $(FUZZTIME)

.PHONY: chaos
chaos: ## kill -9 a writing server ROUNDS (50) times and count what was acknowledged
	$(GO) vet -tags chaos ./e2e
	scripts/named.sh '^TestChaos' -tags chaos ./e2e
	WEIR_CHAOS_ROUNDS=$(ROUNDS) $(GO) test -tags chaos -v -count=1 -timeout 60m -run '^TestChaos' -skip '^TestChaosRollups' ./e2e

.PHONY: chaos-years
chaos-years: ## kill -9 a server that rolls up, merges, ships and deletes ROUNDS (50) times
	WEIR_CHAOS_ROUNDS=$(ROUNDS) $(GO) test -tags chaos -v -count=1 -timeout 60m -run '^TestChaosRollups' ./e2e

.PHONY: e2e
e2e: peers ## run the tests against real Prometheus servers
	$(GO) vet -tags e2e ./e2e
	scripts/named.sh '^TestE2E' -tags e2e ./e2e
	e2e/jaeger/build.sh
	WEIR_PEERS="$$(scripts/peers.sh --dir)" WEIR_JAEGERS="$$(e2e/jaeger/build.sh --dir)" $(GO) test -tags e2e -v -count=1 -timeout 10m -run '^TestE2E' ./e2e

.PHONY: bench
bench: build peers ## measure Weir beside real Prometheus; BENCHFLAGS adds flags
	$(GO) build -o bin/bench ./bench
	./bin/bench -weir bin/weir -prometheus "$$(scripts/peers.sh --dir)/prometheus" $(BENCHFLAGS)

##@ Code

.PHONY: build
build: ## build bin/weir
	$(GO) build -trimpath -pgo $(PROFILE) -ldflags '-X main.release=$(RELEASE)' -o bin/weir ./cmd/weir

.PHONY: gen
gen: ## write the generated pages anew
	$(GO) generate ./...

.PHONY: check
check: gen ## fail when a generated page is stale
	git diff --exit-code -- $(GENERATED)

.PHONY: oracle
oracle: ## compare the JSON of Jaeger's HTTP API with Jaeger v1.62's own handler
	WEIR_JAEGER_ORACLE="$$(tracing/jaegerv1/oracle/build.sh)" $(GO) test -count=1 -run '^TestJaeger' ./tracing/jaegerv1

.PHONY: gen-proto
gen-proto: ## write the gRPC stubs of tracing/proto anew
	scripts/gen-proto.sh

.PHONY: peers
peers: ## build the real Prometheus and promtool, once, into the cache
	scripts/peers.sh

$(LINT):
	GOBIN=$(@D) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
