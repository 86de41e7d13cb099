# make test runs what must pass before a change lands; the rest is for a closer
# look. Nothing here needs more than Go, redis-server, redis-tools and twemproxy,
# and `make tools` installs those where it can.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 30s
SEEDS ?= 10000

MUTANT ?=

.PHONY: build test race lint fuzz sim mutants compat bench tools generate

build:
	go build -o keyway ./cmd/keyway

test: tools
	go test ./...

race: tools
	go test -race -shuffle=on ./...

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these"; exit 1; }
	go vet ./...
	GOOS=darwin go vet ./...
	go mod tidy -diff
	go run $(STATICCHECK) ./...

# One target at a time: go test fuzzes no more than one.
fuzz:
	scripts/fuzz ./resp FuzzParser $(FUZZTIME)
	scripts/fuzz ./resp FuzzScanner $(FUZZTIME)
	scripts/fuzz ./config FuzzParse $(FUZZTIME)
	scripts/fuzz ./command FuzzKeys $(FUZZTIME)
	scripts/fuzz ./proxy FuzzSession $(FUZZTIME)

sim:
	go test -timeout 60m ./test/sim -run TestSimulation -args -seeds $(SEEDS)

# Plants deliberate bugs and requires that a test fails for each.
mutants: tools
	go run ./test/mutants $(MUTANT)

# Unmodified clients against keyway.
compat: tools
	go test -count=1 -v -run TestClients ./test

bench:
	go test -run xxx -bench . -benchmem ./...

generate:
	go generate ./command

tools:
	@scripts/tools
