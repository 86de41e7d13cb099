package admin

import (
	"context"
	"fmt"
	"net/http"
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
}

const snapshotTimeout = 2 * time.Second

// Handler serves /metrics, /healthz and /readyz. Nothing that it serves changes
// anything.
func Handler(b Backend, version string) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &Collector{b, version})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { answer(w, healthy(r.Context(), b)) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { answer(w, ready(r.Context(), b)) })
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

// ready: every key has a node that can be reached.
func ready(ctx context.Context, b Backend) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	shots, err := b.Snapshot(ctx)
	if err != nil {
		return err
	}
	for _, s := range shots {
		masters := 0
		for _, n := range s.Nodes {
			if !n.Master {
				continue
			}
			masters++
			if !n.Up {
				return fmt.Errorf("node %s cannot be reached: %s", strings.TrimSpace(n.Name+" "+n.Addr), n.Reason)
			}
		}
		if masters == 0 {
			return fmt.Errorf("no node is known yet")
		}
		if !s.Covered {
			return fmt.Errorf("some slots have no node")
		}
	}
	return nil
}
