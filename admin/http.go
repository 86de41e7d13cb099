package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/keyway-proxy/keyway/proxy"
)

// Backend is what is shown; server.Server is one.
type Backend interface {
	Snapshot(ctx context.Context) ([]proxy.Snapshot, error)
	Started() time.Time
	Stopping() bool
}

// Options are what the handler shows, and how.
type Options struct {
	Version      string
	ReadyAll     bool          // /readyz needs every master, not only one
	DroppedLines func() uint64 // of the log; nil if that is not known
}

const snapshotTimeout = 2 * time.Second

// Handler serves /metrics, /healthz and /readyz. Nothing that it serves changes
// anything.
func Handler(b Backend, o Options) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &Collector{b, o})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { answer(w, healthy(r.Context(), b)) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		notes, err := ready(r.Context(), b, o.ReadyAll)
		answer(w, err)
		for _, note := range notes {
			fmt.Fprintln(w, note)
		}
	})
	return mux
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

// healthy: every loop turns.
func healthy(ctx context.Context, b Backend) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	_, err := b.Snapshot(ctx)
	return err
}

// ready returns why keyway should get no clients, nil if it should: it can reach a
// master, or all of them if that is asked for. notes say what clients will miss.
func ready(ctx context.Context, b Backend, all bool) (notes []string, err error) {
	if b.Stopping() {
		return nil, errors.New("keyway is stopping")
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	shots, err := b.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	masters, up := 0, 0
	for _, n := range sum(shots).Nodes {
		if !n.Master {
			continue
		}
		if masters++; n.Up {
			up++
			continue
		}
		notes = append(notes, fmt.Sprintf("node %s cannot be reached: %s", strings.TrimSpace(n.Name+" "+n.Addr), n.Reason))
	}
	covered := !slices.ContainsFunc(shots, func(s proxy.Snapshot) bool { return !s.Covered })
	if !covered && masters > 0 {
		notes = append(notes, "some slots have no node")
	}
	switch {
	case masters == 0:
		return nil, errors.New("no node is known yet")
	case up == 0:
		return notes, errors.New("no node can be reached")
	case all && (up < masters || !covered):
		return notes, fmt.Errorf("%d of %d nodes can be reached", up, masters)
	}
	return notes, nil
}
