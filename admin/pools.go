package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyway-proxy/keyway/acl"
)

// Pool is one of the pools that a keyway serves.
type Pool struct {
	Name    string // empty: the configuration has no pools, and this is all
	Backend Backend
	Options Options // without what belongs to the process: Version, DroppedLines, Reload, Tokens and the like
}

// PoolParam is the parameter of all pages about one pool that names a pool.
const PoolParam = "pool"

// PoolsHandler is Handler for all pools of a process. o has what belongs to the process. pools is
// asked for each request.
func PoolsHandler(pools func() []Pool, o Options) http.Handler {
	mux := http.NewServeMux()
	o.brake = new(brake)
	o.people = func() []*acl.Users { return usersOf(pools()) }
	servePages(mux, pools)
	serveProcess(mux, poolsCollector{pools, o}, o)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		chosen, err := choose(pools(), r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, p := range chosen {
			err = errors.Join(err, healthy(r.Context(), p.Backend))
		}
		answer(w, err)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { readyPools(w, r, pools()) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		all := pools()
		chosen, err := choose(all, r)
		if err == nil && len(chosen) > 1 {
			err = fmt.Errorf("keyway serves several pools: add %s=NAME, one of %s", PoolParam, namesOf(all))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		one := http.NewServeMux()
		process := o
		process.people = func() []*acl.Users { return usersOf(chosen) }
		servePool(one, chosen[0].Options, process)
		one.ServeHTTP(w, r)
	})
	return forOwnNames(compressed(mux))
}

// usersOf returns the users of pools; none if one of the pools has none.
func usersOf(pools []Pool) (all []*acl.Users) {
	for _, p := range pools {
		if p.Options.Users == nil {
			return nil
		}
		all = append(all, p.Options.Users())
	}
	return all
}

// choose returns the pool that a request names, or all pools.
func choose(all []Pool, r *http.Request) ([]Pool, error) {
	name := r.URL.Query().Get(PoolParam)
	if name == "" {
		return all, nil
	}
	i := slices.IndexFunc(all, func(p Pool) bool { return p.Name == name })
	switch {
	case i >= 0:
		return all[i : i+1], nil
	case len(all) == 1 && all[0].Name == "":
		return nil, fmt.Errorf("%s=%s: this keyway has no pools", PoolParam, name)
	}
	return nil, fmt.Errorf("%s=%s: keyway serves %s", PoolParam, name, namesOf(all))
}

func namesOf(all []Pool) string {
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}

// readyPools answers /readyz. Of several pools one that is ready is enough, so that the dead nodes
// of one pool do not take the clients of all others away; with nodes=all, all have to be ready.
func readyPools(w http.ResponseWriter, r *http.Request, pools []Pool) {
	chosen, err := choose(pools, r)
	var lines []string
	var failed []error
	for _, p := range chosen {
		needAll, problem := p.Options.readyAll(r.URL.Query())
		if problem != nil {
			err = problem
			break
		}
		notes, problem := ready(r.Context(), p.Backend, p.Options, needAll)
		lead := ""
		if p.Name != "" {
			lead = "pool " + p.Name + ": "
		}
		if problem != nil {
			failed = append(failed, fmt.Errorf("%s%w", lead, problem))
		}
		for _, note := range notes {
			lines = append(lines, lead+note)
		}
	}
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	case len(failed) == len(chosen), len(failed) > 0 && r.URL.Query().Get(NodesParam) == NodesAll:
		answer(w, errors.Join(failed...))
	default:
		answer(w, nil)
		for _, problem := range failed {
			fmt.Fprintln(w, problem)
		}
	}
	for _, line := range lines {
		fmt.Fprintln(w, line)
	}
}

// poolsCollector turns the counters of all pools into metrics. With pools, each has the label
// pool, except those of the process.
type poolsCollector struct {
	pools func() []Pool
	o     Options
}

// Describe says nothing, as that of Collector.
func (c poolsCollector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the counters of all pools.
func (c poolsCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), snapshotTimeout)
	defer cancel()
	for i, p := range c.pools() {
		p.Options.Version = c.o.Version
		one := poolCollector{ctx: ctx, backend: p.Backend, o: p.Options}
		if i == 0 {
			c.o.collectProcess(p.Backend.Started(), out)
			one.process = out
		}
		var of prometheus.Collector = one
		if p.Name != "" {
			of = prometheus.WrapCollectorWith(prometheus.Labels{PoolParam: p.Name}, of)
		}
		of.Collect(out)
	}
}
