package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyway-proxy/keyway/locks"
)

// defaultLocks is how many locks /locks lists unless the request says otherwise.
const defaultLocks = 1000

// Locks returns the clients' locks.
type Locks func(ctx context.Context, q locks.Query) ([]locks.Row, error)

// LockFigures returns what was counted of locks, by pattern.
type LockFigures func(ctx context.Context) ([]locks.PatternFigures, error)

// lockCounters are the counters of locks.
var lockCounters = []struct {
	desc  *prometheus.Desc
	count func(*locks.Figures) uint64
}{
	{desc("lock_acquisitions_total", "Locks that clients acquired, once more included.", "pattern"),
		func(f *locks.Figures) uint64 { return f.Acquisitions }},
	{desc("lock_refusals_total", "Attempts to acquire a lock that another client held.", "pattern"),
		func(f *locks.Figures) uint64 { return f.Refusals }},
	{desc("lock_leases_expired_total", "Leases that ran out before keyway saw a release or renewal.", "pattern"),
		func(f *locks.Figures) uint64 { return f.Expired }},
	{desc("lock_lost_total", "Holders that were told, on renewal or release, that the lock is not their own any more.",
		"pattern"), func(f *locks.Figures) uint64 { return f.Lost }},
	{desc("lock_foreign_releases_total", "Locks that another client than the holder deleted.", "pattern"),
		func(f *locks.Figures) uint64 { return f.ForeignReleases }},
	{desc("lock_missed_renewals_total", "Locks that were not renewed for half their lease although they usually are.",
		"pattern"), func(f *locks.Figures) uint64 { return f.MissedRenewals }},
}

var (
	descLockHold = desc("lock_hold_seconds", "How long locks were held.", "pattern")
	descLockWait = desc("lock_wait_seconds",
		"How long clients tried before they acquired a lock, 0 if the first attempt succeeded.", "pattern")
)

// collectLocks exports what was counted of locks.
func (o Options) collectLocks(ctx context.Context, out chan<- prometheus.Metric) {
	if o.LockFigures == nil {
		return
	}
	all, err := o.LockFigures(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(descLockHold, err)
		return
	}
	for i := range all {
		f := &all[i]
		for _, c := range lockCounters {
			n := float64(c.count(&f.Figures))
			out <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, n, f.Pattern)
		}
		out <- latencies{descLockHold, &f.Hold, locks.TickRatio, 2, []string{f.Pattern}}
		out <- latencies{descLockWait, &f.Wait, locks.TickRatio, 2, []string{f.Pattern}}
	}
}

// listLocks answers /locks?count=N&match=GLOB with the locks as JSON.
func (o Options) listLocks(w http.ResponseWriter, r *http.Request) {
	q := locks.Query{Count: defaultLocks}
	if count := r.URL.Query().Get("count"); count != "" {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 {
			http.Error(w, "count must be a number above 0, such as count=100", http.StatusBadRequest)
			return
		}
		q.Count = min(n, locks.MaxLocks)
	}
	if match := r.URL.Query().Get("match"); match != "" {
		q.Match = []byte(match)
	}
	ctx, cancel := context.WithTimeout(r.Context(), snapshotTimeout)
	defer cancel()
	rows, err := o.Locks(ctx, q)
	if err != nil {
		http.Error(w, fmt.Sprint(err), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(struct { // an error here is the client's, who has left
		Locks []locks.Row `json:"locks"`
	}{append([]locks.Row{}, rows...)})
}
