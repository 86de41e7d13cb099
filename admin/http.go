package admin

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/audit"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/page"
	"github.com/keyway-proxy/keyway/router"
)

// Backend is the source of what is shown. server.Server is one.
type Backend interface {
	Snapshot(ctx context.Context) ([]metrics.Snapshot, error)
	Started() time.Time
	Stopping() bool
}

// Counted is what the process has counted of what it writes.
type Counted struct {
	DroppedLines func() uint64   // log lines dropped so far; may be nil
	Followed     func() Followed // may be nil
}

// Followed counts the traces of commands, and the lines of the access log.
type Followed struct{ Traces, Lines Outcomes }

// Outcomes counts what was sent or written, what could not be, and what was not even tried, since too much waited.
type Outcomes struct{ Done, Failed, Dropped uint64 }

// Options configure the handler.
type Options struct {
	Version  string
	ReadyAll func() bool // whether /readyz needs every master, not only one; may be nil
	Counted
	Surveyed    func() []Surveyed // findings about the nodes; may be nil
	Guarded     func() []Guarded  // findings about the nodes' keys; may be nil
	Disagreeing func() int        // other keyways with another placement; may be nil
	Locks       Locks             // the clients' locks; nil: there is no /locks
	LockFigures LockFigures       // what was counted of them; may be nil
	Keys
	Certificates func() []Certificate // the files of listeners that speak TLS; may be nil
	Passwords    func() []Password    // that commands print; may be nil
	// InForce returns the epoch of the layout that is served, and whether that is another layout
	// than the file's. It may be nil.
	InForce func() (epoch int64, notOfFile bool)
	// Switch returns how the keyway takes part in changes of the layout. It may be nil.
	Switch func() Switch
	// Reload reads the configuration again and applies it. It returns what to print. nil:
	// there is no /reload.
	Reload func(ctx context.Context, allowMisplaced bool) (report string, err error)
	// Upgrade starts the process that replaces this one. It returns what to print. nil: there is
	// no /upgrade.
	Upgrade func() (report string, err error)
	Who
	LogLevel *LogLevel // nil: there is no /log-level
	// Audit records what operators do here, and what they are refused. It may be nil.
	Audit func(audit.Deed)
	Acts
	// Placement returns where the keyway looks for keys. nil: there is no /placement.
	Placement func() Placement
	Next      NextLayout // nil: there is no /next-layout
	Page      *page.Page // what a browser shows; nil: there is none
	// Route returns where a key lives by the table in force, and why. nil: there is no /route.
	Route func(key []byte) router.Explanation
	Views
}

// Who says who may act.
type Who struct {
	// Tokens returns the tokens that allow to act, as they are now. If it is nil or returns none, some pages need
	// none and others need a user; see guarded.
	Tokens func() []string
	// Users returns the users of a pool, who may act by name and password if their rules allow it. It may be nil.
	Users func() *acl.Users
	// OperatorName returns the name of an operator that has this certificate; empty: it has none. It may be nil.
	OperatorName func(*x509.Certificate) string

	people func() []*acl.Users // of the pools that a page is about; nil: none
	brake  *brake
}

// Acts are what operators can do to one pool. Each may be nil: then there are no such pages.
type Acts struct {
	// Kill closes the client with this ID, and returns what to print.
	Kill         func(ctx context.Context, id uint64) (report string, err error)
	PauseClients PauseClients
	Steering     Steering
}

// Switch says how a keyway takes part in changes of the layout.
type Switch struct {
	Epoch     int64  // of the change that is under way; 0: none
	State     string // of the keyway in it
	Moved     uint64 // keys that this process has moved for all, since it started
	Conflicts uint64 // of these, keys that were on two nodes with different values
	Moves     bool   // this process moves the keys now
	// What the process says that moves the keys, whichever that is. Left and Rate are below 0 if they are not known.
	Left   int64
	Rate   int
	Waits  bool
	Paused bool
	Pace   string // in words; empty: not known
	PaceBy string // who has set it; empty: not known
}

// Placement is where a keyway looks for keys, for keyway plan. It has no password.
type Placement struct {
	Version  string          `json:"version"`
	Instance string          `json:"instance"`
	Hash     string          `json:"placement"` // as in the names of its connections
	Config   json.RawMessage `json:"config"`    // a text of config.PlacementText
}

// Certificate is a file with certificates.
type Certificate struct {
	File     string
	NotAfter time.Time // when the first of them expires
}

// Password is what was counted of a command that prints a password.
type Password struct {
	Key            string // the section of the file that has the command
	Runs, Failures uint64
	Printed        time.Time // when the command last printed the password
}

// Surveyed is a finding about a node.
type Surveyed struct {
	Name, Addr string
	Unfit      string // why it cannot serve its keys; empty if it can
}

// Guarded is a finding about a node's keys.
type Guarded struct {
	Name, Addr string
	Sampled    int // keys that were looked at
	Elsewhere  int // of these, how many belong to another node
	Ratio      float64
}

// unfit returns the reasons why nodes cannot serve their keys, by the nodes' names.
func (o Options) unfit() map[string]string {
	unfit := map[string]string{}
	if o.Surveyed != nil {
		for _, n := range o.Surveyed() {
			unfit[n.Name] = n.Unfit
		}
	}
	return unfit
}

const snapshotTimeout = 2 * time.Second

// Handler serves /metrics, /healthz, /readyz, /placement, /route, /locks and [Views], all of them read-only,
// and what needs a token, or a user with the right, if there are any: /next-layout, /reload, /upgrade, /log-level,
// /clients/kill, /clients/pause, /clients/unpause, what is below /switch/, and /debug/pprof.
func Handler(b Backend, o Options) http.Handler {
	all := []Pool{{Backend: b, Options: o}}
	return PoolsHandler(func() []Pool { return all }, o)
}

// serveProcess serves the pages that are about the process.
func serveProcess(mux *http.ServeMux, c prometheus.Collector, o Options) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), c)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	if o.Reload != nil {
		o.serveOrder(mux, "/reload", ifThereAreTokens, changesSettings, func(r *http.Request) (string, error) {
			return o.Reload(r.Context(), r.URL.Query().Get(AllowMisplaced) == "true")
		})
	}
	if o.Upgrade != nil {
		o.serveOrder(mux, "/upgrade", ifThereAreTokens, changesProcess, func(*http.Request) (string, error) {
			return o.Upgrade()
		})
	}
	if o.LogLevel != nil {
		serveLogLevel(mux, o)
	}
	serveProfiles(mux, o)
}

// servePool serves the pages that are about one pool. process says who may act.
func servePool(mux *http.ServeMux, o, process Options) {
	if o.Placement != nil {
		mux.HandleFunc("GET /placement", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, o.Placement()) })
	}
	if o.Route != nil {
		mux.HandleFunc("GET /route", o.explainRoutes)
	}
	if o.Page != nil {
		mux.HandleFunc("GET "+LivePath, o.Page.ServeLive)
		mux.HandleFunc("GET "+page.ClientsPath, o.Page.ServeClients)
	}
	if o.Locks != nil {
		mux.HandleFunc("GET /locks", o.listLocks)
	}
	o.Keys.serve(mux)
	o.Views.serve(mux)
	o.Acts.serve(mux, process)
	if o.Next != nil {
		serveNext(mux, o.Next, process)
	}
}

// serveOrder serves a page that makes keyway do something: a POST is answered with 200 and what
// has changed, with 409 and why the state of keyway or of the nodes does not allow it, or with 400 and what is wrong
// with the request, see BadRequest. The request gives neither a configuration nor a
// program, so it can apply nothing but what is there.
// A user needs the right to run the command.
func (o Options) serveOrder(
	mux *http.ServeMux, page string, n need, right *command.Command, do func(*http.Request) (string, error),
) {
	mux.Handle("POST "+page, o.guarded(func(w http.ResponseWriter, r *http.Request) {
		// It takes as long as it takes. If the deadline cannot be changed, the answer may be lost.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
		report, err := do(r)
		o.record(r, report, err)
		answerOrder(w, report, err)
	}, n, right))
}

// BadRequest marks the error of an order whose parameters are wrong, whatever the state is.
func BadRequest(err error) error { return badRequest(err.Error()) }

func answerOrder(w http.ResponseWriter, report string, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		status := http.StatusConflict
		if errors.As(err, new(badRequest)) {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprint(w, report)
}

// AllowMisplaced is the parameter of /reload that accepts keys out of clients' sight.
const AllowMisplaced = "allow-misplaced"

// answerJSON answers with an object.
func answerJSON(w http.ResponseWriter, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(object) // the only error is that the asker has left
}

// explainRoutes answers /route?key=KEY&key=KEY with a line of JSON for each key.
func (o Options) explainRoutes(w http.ResponseWriter, r *http.Request) {
	keys := r.URL.Query()["key"]
	if len(keys) == 0 {
		http.Error(w, "name the key: /route?key=KEY", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	lines := json.NewEncoder(w)
	for _, key := range keys {
		_ = lines.Encode(o.Route([]byte(key))) // an error here is the client's, who has left
	}
}

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}

// healthy returns an error unless every event loop answers in time.
func healthy(ctx context.Context, b Backend) error {
	_, err := snapshotOf(ctx, b)
	return err
}

// snapshotOf returns the counters of all threads, or an error if a thread does not answer in time.
func snapshotOf(ctx context.Context, b Backend) ([]metrics.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	shots, err := b.Snapshot(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("a thread does not answer within %s", snapshotTimeout)
	}
	return shots, err
}

// NodesParam is the parameter of /readyz that says what it needs: NodesAny or NodesAll. It wins
// over the configuration.
const (
	NodesParam = "nodes"
	NodesAny   = "any"
	NodesAll   = "all"
)

// readyAll reports whether a request to /readyz with these parameters needs every master.
func (o Options) readyAll(query url.Values) (bool, error) {
	switch nodes := query.Get(NodesParam); nodes {
	case "":
		return o.ReadyAll != nil && o.ReadyAll(), nil
	case NodesAny:
		return false, nil
	case NodesAll:
		return true, nil
	default:
		return false, fmt.Errorf("nodes=%s: write any or all", nodes)
	}
}

// clientsLeft says which clients a keyway that stops still has, and nothing if its threads do not
// answer any more.
func clientsLeft(ctx context.Context, b Backend) []string {
	shots, err := snapshotOf(ctx, b)
	if err != nil {
		return nil
	}
	all := metrics.Sum(shots).Gauges
	return []string{fmt.Sprintf("clients left: %d; in a transaction: %d, waiting in a blocking command: %d, "+
		"subscribed or monitoring: %d", all.Clients, all.InTransaction, all.Waiting, all.Listening)}
}

// ready returns an error if keyway should get no clients: it must reach a master, or with
// needAll every master and slot. notes name the nodes that clients will miss.
func ready(ctx context.Context, b Backend, o Options, needAll bool) (notes []string, err error) {
	if b.Stopping() {
		return clientsLeft(ctx, b), errors.New("keyway is stopping")
	}
	shots, err := snapshotOf(ctx, b)
	if err != nil {
		return nil, err
	}
	masters, up, unfit := 0, 0, o.unfit()
	all := metrics.Sum(shots)
	for _, n := range all.Nodes {
		if !n.Master {
			continue
		}
		masters++
		switch why := unfit[n.Name]; {
		case !n.Up:
			name := strings.TrimSpace(n.Name + " " + n.Addr)
			notes = append(notes, fmt.Sprintf("node %s cannot be reached: %s", name, n.Reason))
		case why != "":
			notes = append(notes, fmt.Sprintf("node %s %s %s", n.Name, n.Addr, why))
		default:
			up++
		}
	}
	covered := !slices.ContainsFunc(shots, func(s metrics.Snapshot) bool { return !s.Covered })
	if !covered && masters > 0 {
		notes = append(notes, "some slots have no node")
	}
	for _, p := range overview.LockProblems(&all) {
		notes = append(notes, p.Text)
	}
	switch {
	case masters == 0:
		return nil, errors.New("no node is known yet")
	case up == 0:
		return notes, errors.New("no node can serve")
	case needAll && (up < masters || !covered):
		return notes, fmt.Errorf("%d of %d nodes can serve", up, masters)
	}
	return notes, nil
}
