# make test runs the tests that must pass before a change lands; the other targets look
# closer. All of them need Go, redis-server, redis-tools, twemproxy, and the other servers
# that scripts/servers fetches. `make tools` installs these where it can.

# keyway is tested as it is released, and what one target has compiled serves the others.
export CGO_ENABLED = 0
export GOFLAGS ?= -trimpath

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 30s
SEEDS ?= 10000

MUTANT ?=
RUN ?=

VERSION ?= $(shell scripts/version)

.PHONY: build release packages charts test race lint fuzz sim faults soak mutants compat locks servers bench benchstat tools generate screenshots

build:
	go build -ldflags "-X main.version=$(VERSION)" -o keyway ./cmd/keyway

# The files of a release, in dist/.
release:
	VERSION=$(VERSION) scripts/release

# Builds the files of a release, and installs its packages on a copy of this machine. It needs
# root and Linux.
packages: tools
	go test -timeout 10m -count=1 -v ./test/packages -args -release

# The Helm chart and the manifests for Kubernetes, by helm and kubeconform. UPDATE=1 writes
# packaging/kubernetes anew.
charts: tools
	go test -timeout 15m -count=1 -v ./test/charts -args -helm $(if $(UPDATE),-update)

# Most tests wait for nodes or clients, so more run at a time than there are processors. The
# fault tests run alone and fewer at a time, because some measure keyway's use of memory and
# time, or use the whole machine. ./test takes longest, so it begins first.
OTHERS = ./test $$(go list ./... | grep -v -e /test/faults -e '/test$$')

test: tools
	go test -timeout 20m -parallel 8 $(OTHERS)
	go test -timeout 20m -parallel 4 ./test/faults

# make test and make lint vet the same code. The race detector sees nothing of browsers, Prometheus,
# Helm and valgrind, and the packages and ./test use from many goroutines what these look at. RUN chooses tests
# by their names, as go test does.
OUTSIDE = page|dashboards|charts|packages|bench|mutants
RACING = ./test $$(go list ./... | grep -v -E '/test(/(faults|$(OUTSIDE)))?$$')

race: export CGO_ENABLED = 1
race: tools
	go test -timeout 20m -race -vet=off -shuffle=on -parallel 8 -run '$(RUN)' $(RACING)
	go test -timeout 20m -race -vet=off -shuffle=on -parallel 4 -run '$(RUN)' ./test/faults

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these"; exit 1; }
	go vet ./...
	GOOS=darwin GOARCH=arm64 go vet ./...
	go mod tidy -diff
	go run $(STATICCHECK) ./...

# One target at a time: go test fuzzes no more than one.
fuzz:
	scripts/fuzz ./resp FuzzParser $(FUZZTIME)
	scripts/fuzz ./resp FuzzScanner $(FUZZTIME)
	scripts/fuzz ./config FuzzParse $(FUZZTIME)
	scripts/fuzz ./command FuzzKeys $(FUZZTIME)
	scripts/fuzz ./command FuzzGlob $(FUZZTIME)
	scripts/fuzz ./names FuzzCommand $(FUZZTIME)
	scripts/fuzz ./transfer FuzzReplies $(FUZZTIME)
	scripts/fuzz ./proxy FuzzSession $(FUZZTIME)
	scripts/fuzz ./proxyheader FuzzParse $(FUZZTIME)

sim:
	go test -timeout 240m ./test/sim -run "TestSimulation|TestChangeOfLayout|TestSwitch" -args -seeds $(SEEDS)
	go test -timeout 60m ./transfer -run TestKeysUnderFaults -args -seeds $(SEEDS)

# The long forms of the fault tests take some fifteen minutes. TestPartitions makes network
# namespaces and needs root.
faults: tools
	go test -timeout 90m -v ./test/faults -args -long

# An hour of clients that come and go under faults.
soak: tools
	go test -timeout 90m -v ./test/faults -run TestSoak -args -soak 60m

# Plants deliberate bugs and requires that a test fails for each.
mutants: tools
	go run ./test/mutants $(MUTANT)

# Unmodified clients against keyway; TARGET=redis against one Redis.
compat: tools
	go test -count=1 -v -run TestClients ./test
	scripts/compat

# The long forms of the tests of locks: every library, locks under faults, and locks on a
# majority of nodes.
locks: tools
	LOCKS=long CLIENTS=go,python,node,java scripts/compat
	go test -timeout 30m -count=1 -v ./test/faults -run TestLocks -args -long
	go test -timeout 30m -count=1 -v ./quorum -run TestLocksUnderFaults -args -seeds $(SEEDS)
	go test -timeout 10m -count=1 -v ./test -run TestQuorum

# The tests that compare keyway with one server, the cluster tests and some clients, over
# each of the other servers. `make test` and `make compat` run over redis-server. Not all of the
# others speak TLS.
OVER_EACH = LikeRedis|NodesUsers|NodesRules|NodesDefault|AsRedisFinds|Database|Cluster|Scan|PubSub|Blocked|Tracking|Scripts|TestClients|TestFlip|TestDecideOnce|$(MOVES)|$(LAYOUTS)
MOVES = TestMigrate$$|TestMigrateTwice|TestMigrateRefused|TestMigrateOutlivesLost|TestVerify$$|TestVerifyRepair
LAYOUTS = TestPlanRights|TestLikelyCause|TestConnectionsAreNamed|TestReloadMovesNode$$|TestReloadPasswords|TestSwitchKeeps|TestSwitchInto

# TestSwitchScenarios waits most of the time, too, so it runs beside the others.
servers: tools
	for server in redis8 valkey stack; do \
		go test -count=1 -parallel 8 ./test/faults -run TestSwitchScenarios -args -server $$server & beside=$$!; \
		go test -count=1 -parallel 8 ./test -run '$(OVER_EACH)' -skip '^TestTLS' -args -server $$server && \
		SERVER=$$server CLIENTS=go scripts/compat; ended=$$?; \
		wait $$beside && [ $$ended = 0 ] || exit 1; \
	done

# The processor time that keyway and twemproxy take for a request, all on one core, and how it
# grows. It takes some twenty minutes on a quiet Linux machine, and rewrites docs/benchmarks.json,
# docs/benchmarks.md, README's table and the plots. docs/benchmarks.md explains ONLY and BESIDE.
# `go test -run xxx -bench . ./...` runs Go's benchmarks.
CPUS ?= 0
ROUNDS ?= 7
ONLY ?=
BESIDE ?=

bench: tools
	taskset -c $(CPUS) go test -count=1 -timeout 3h -v ./test/bench -run TestBenchmarks \
		-args -measure -rounds $(ROUNDS) -only '$(ONLY)' -beside '$(BESIDE)'

# The benchmarks of the working tree compared with those of a commit, by benchstat. BENCH=REGEXP selects
# benchmarks; COUNT is the number of rounds.
BASE ?= main
BENCH ?= Parser|Scanner|Place|Ring|Search|Of$$|Check|Requests|Record$$|Pipeline16$$|Split16
COUNT ?= 8

benchstat:
	scripts/benchstat '$(BASE)' '$(BENCH)' $(COUNT)

# The command table, the pages that list commands and configuration keys, and the dashboard for Grafana.
generate:
	go generate ./command
	go test ./config -run TestKeysPage -args -update
	go test ./admin -run TestExposition -args -rewrite
	go test ./test/dashboards -run TestDashboard -args -update
	go test ./test/charts -run TestFilesOfChart -args -update
	go test ./test -run TestREADMEPages -args -update

# The pictures of the page in docs/images.
screenshots: tools
	go test -count=1 ./test/page -run TestScreenshots -args -screenshots ../../docs/images

tools:
	@scripts/tools
