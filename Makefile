# `make` lists what there is. Every target that needs an engine, BuildKit or
# base images gets them from scripts/setup, which uses what answers already.
export GOEXPERIMENT := jsonv2

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build install demo test test-fast test-engine lane-engine lane-loopback test-newer-engine test-mixed-engines test-e2e lane-story lane-load test-hardware conformance study smoke-variants reliability survive drift-table fuzz bench bench-ledger bench-hosts bench-deploy bench-smoke tampering lint clean

# Packages whose tests need more than Go, by build tag.
tagged = $(shell grep -rlE --include='*_test.go' '^//go:build .*\b$(1)\b' . | xargs -r dirname | sort -u)

# Where engine and BuildKit are, as environment of what follows.
setup := environment="$$(scripts/setup)" && eval "$$environment"

help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: ## get tools, engine, BuildKit and base images ready; print where they are
	@scripts/setup

build: ## build bin/promote
	@scripts/build

install: build ## copy the binary to $(go env GOPATH)/bin
	@bin="$$(go env GOBIN)"; bin="$${bin:-$$(go env GOPATH)/bin}"; \
	install -D -m 0755 bin/promote "$$bin/promote" && echo "installed $$bin/promote"

demo: ## the whole story on this machine
	@$(setup); scripts/build; bin/promote demo

test: ## all tests: fast, on real engines, end to end
	@$(MAKE) --no-print-directory test-fast test-engine test-hardware test-e2e

test-fast: ## the tests that need no engine and no network
	go test -timeout 5m ./...

# Tests that mostly wait leave a core for others, so they go in two lanes, and a
# failure in either fails both. What needs the engine goes one package at a time:
# its tests share it, and some of them measure. Beside it goes what has registries
# on loopback to itself.
lanes = $(MAKE) --no-print-directory --jobs=2
loopback := ./internal/advisories ./internal/localregistry ./pkg/ledger ./pkg/pipeline ./pkg/registry ./pkg/scan ./pkg/sign
engine_test = go test -tags=engine -count=1 -p 1 -timeout 40m

test-engine: build ## the tests on a real engine, BuildKit and registry
	@scripts/packages jq openssl skopeo xxd docker; $(setup); scripts/with-registry $(lanes) lane-engine lane-loopback

lane-engine:
	$(engine_test) $(filter-out $(loopback),$(call tagged,engine))

lane-loopback:
	$(engine_test) $(loopback)

# ENGINE is a Debian suite or moby@VERSION, with "+containerd" or "+classic" for
# an image store that is not its default: scripts/run-engine.
test-newer-engine: build ## the tests of engine and deployment on another ENGINE (trixie)
	@scripts/packages docker; $(setup); scripts/with-registry scripts/with-engine '$(or $(ENGINE),trixie)' go test -tags=engine -count=1 -p 1 -timeout 40m $(or $(ARGS),./pkg/engine ./pkg/deploy)

# The engines of staging's host and of production's two; own is the installed one.
ENGINES ?= trixie,own,forky

test-mixed-engines: build ## several hosts, each with another engine of ENGINES
	@scripts/packages dockerd nsenter; $(setup); for engine in $$(tr , ' ' <<<'$(ENGINES)'); do [ "$$engine" = own ] || scripts/run-engine "$$engine"; done; \
	CI=true PROMOTE_BINARY="$(CURDIR)/bin/promote" go test -tags=e2e -count=1 -timeout 40m -v -run TestSeveralHosts ./internal/e2e -args -engines '$(ENGINES)'

# Each lane has a stage of its own, so that what breaks one is not seen in the other.
beside := ^(TestSeveralHosts|TestStateSurvivesPromotionsUnderLoad)$$

test-e2e: build ## the story, end to end; hosts over ssh
	@scripts/packages dockerd nsenter; $(setup); PROMOTE_BINARY="$(CURDIR)/bin/promote" $(lanes) lane-story lane-load

lane-story:
	go test -tags=e2e -count=1 -p 1 -timeout 25m -skip '$(beside)' $(call tagged,e2e)

lane-load:
	go test -tags=e2e -count=1 -p 1 -timeout 25m -run '$(beside)' $(call tagged,e2e)

# A program for hardware is built with cgo and this tag; SoftHSM stands in for it.
test-hardware: ## keys in a PKCS #11 token, SoftHSM's
	@scripts/packages softhsm2-util pkcs11-tool gcc
	CGO_ENABLED=1 go test -tags=engine,pkcs11key -count=1 -run '^TestHardware' ./pkg/sign

# SIGSTORE_CONFORMANCE names a checkout of github.com/sigstore/sigstore-conformance.
conformance: ## the public sigstore client conformance vectors, offline
	go test -tags=conformance -count=1 -run TestConformance ./internal/wire

ROUNDS ?= 20
LANES ?= 4

# With VARIANTS, a regular expression, only those; the table keeps the others' rows.
smoke-variants: build ## services that misbehave, each many times: the table in docs/smoke.md
	@$(setup); nice go test -tags=engine -count=1 -timeout 3h -run TestReliability ./pkg/smoke \
	-args -rounds '$(ROUNDS)' -lanes '$(LANES)' -variants '$(VARIANTS)' -table '$(CURDIR)/docs/smoke.md'
	@$(setup); PROMOTE_BINARY="$(CURDIR)/bin/promote" nice go test -tags=e2e -count=1 -timeout 3h -run TestTheExampleIsJudged ./internal/e2e \
	-args -rounds '$(ROUNDS)' -variants '$(VARIANTS)' -table '$(CURDIR)/docs/smoke.md'

# It goes on where it was cut short: bin/reliability.jsonl keeps what was tried.
reliability: build ## promotions killed everywhere, raced, let down by disks: docs/reliability.md; takes hours
	@scripts/packages docker bash; $(setup); \
	nice go test -count=1 -timeout 3h -run TestRaces ./pkg/pipeline -args -races '$(or $(RACES),200)' -git-races '$(or $(GITRACES),$(or $(RACES),200))' -races-out '$(CURDIR)/bin/races.json'; \
	go build -o bin/reliability ./internal/reliability/cmd; \
	nice bin/reliability -work '$(CURDIR)/bin/reliability.d' -rows '$(CURDIR)/bin/reliability.jsonl' -races-file '$(CURDIR)/bin/races.json' -table '$(CURDIR)/docs/reliability.md' \
	-points '$(or $(POINTS),0)' -randoms '$(or $(RANDOMS),200)' -races '$(ROUNDS)' -lanes '$(or $(KILL_LANES),1)' -clean

survive: build ## 200 promotions and rollbacks of the example under load: the table in docs/state.md; takes an hour
	@$(setup); CI=true PROMOTE_BINARY="$(CURDIR)/bin/promote" go test -tags=e2e -count=1 -timeout 3h -v -run TestStateSurvives ./internal/e2e \
	-args -promotions '$(or $(PROMOTIONS),200)' -survived '$(CURDIR)/docs/state.md'

drift-table: ## every change by hand with docker, and what drift calls it: docs/drift.md; takes minutes
	@$(setup); CI=true $(if $(ENGINE),scripts/with-engine '$(ENGINE)') go test -tags=engine -count=1 -timeout 20m -run TestEveryFlag ./pkg/deploy -table '$(CURDIR)/docs/drift.md'

# FUZZTIME is how long each runs; FUZZ chooses by package and name.
fuzz: ## every parser of outside bytes, fuzzed for FUZZTIME (60s) each: docs/fuzzing.md
	@scripts/fuzz "$(or $(FUZZTIME),60s)" "$(or $(FUZZ),.)"

# With ARGS only some, side by side: make bench ARGS='-only B2,B3 -delays 20 -runs 3'
bench: build ## the benchmarks: against other tools, and Go's own
	@scripts/packages skopeo
	go run ./internal/bench/cmd $(ARGS)
	$(if $(ARGS),,go test -run '^$$' -bench . -benchmem $$(grep -rl --include='*_test.go' 'func Benchmark' . | xargs -r dirname | sort -u))

bench-ledger: ## ledgers of up to a million records: docs/benchmarks/ledger.md
	go run ./internal/bench/ledger -out docs/benchmarks $(ARGS)

bench-hosts: ## promotions to one host and to fifty, stubs: docs/benchmarks/hosts.md
	go run ./internal/bench/hosts -out docs/benchmarks $(ARGS)

bench-deploy: build ## deployments and rollbacks beside docker compose: docs/benchmarks/deploy.md
	@scripts/packages docker; $(setup); go run ./internal/bench/deploy -out docs/benchmarks $(ARGS)

bench-smoke: build ## smoke runs beside docker compose: docs/benchmarks/smoke.md
	@$(setup); go test -tags=engine -count=1 -timeout 3h -v -run TestB11 ./internal/bench -args -b11 '$(CURDIR)/docs/benchmarks' $(ARGS)

study: ## the error rates of smoke's judgement of growth, into docs/smoke.md
	go test -count=1 -run TestErrorRates ./pkg/smoke -args -seeds 1000 -study

FLIPS ?= 1
EACH ?= 1

# A sample of it is among the fast tests. KINDS tries only kinds that an expression matches.
tampering: ## a ledger changed in every way, FLIPS bits of each byte, one in EACH: the table in docs/tampering.md
	go test -count=1 -timeout 2h -v -run TestTampering ./pkg/ledger -args -tampering '$(CURDIR)/docs/tampering.md' -flips '$(FLIPS)' -each '$(EACH)' -kinds '$(KINDS)'

lint: ## gofmt, go vet, staticcheck, shellcheck, actionlint
	@scripts/lint

clean: ## take down and remove what setup, demo and tests made
	@scripts/clean
