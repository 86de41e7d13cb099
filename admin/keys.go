package admin

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/hotkeys"
)

// Keys says which keys stand out. Each may be nil: then there is no such page.
type Keys struct {
	HotKeys func(ctx context.Context, by hotkeys.By, count int) ([]hotkeys.Row, error)
	BigKeys func(ctx context.Context, count int) ([]bigkeys.Row, error)
}

// serve serves /hotkeys?count=N&by=commands and /bigkeys?count=N.
func (o Keys) serve(mux *http.ServeMux) {
	if o.HotKeys != nil {
		serveList(mux, "/hotkeys", usualRows, func(r *http.Request, count int) (any, error) {
			by := hotkeys.ByCommands
			if name := r.URL.Query().Get("by"); name != "" {
				known := false
				if by, known = hotkeys.ParseBy(name); !known {
					return nil, badRequest("by must be commands, reads, writes or bytes")
				}
			}
			rows, err := o.HotKeys(r.Context(), by, min(count, hotkeys.MaxRows))
			return struct {
				HotKeys []hotkeys.Row `json:"hotkeys"`
			}{hotkeys.ForJSON(rows)}, err
		})
	}
	if o.BigKeys != nil {
		serveList(mux, "/bigkeys", usualRows, func(r *http.Request, count int) (any, error) {
			rows, err := o.BigKeys(r.Context(), min(count, bigkeys.MaxRows))
			return struct {
				BigKeys []bigkeys.Row `json:"bigkeys"`
			}{bigkeys.ForJSON(rows)}, err
		})
	}
}

var (
	descHotKeys = desc("hot_keys", "Keys with 1 % or more of all accesses to keys in the last 5 to 10 seconds.")
	descHottest = desc("hottest_key_share", "Share of all accesses to keys that the most used key has, 0 to 1.")
)

// hotFrom is the share of the accesses from which keyway_hot_keys counts a key.
const hotFrom = 0.01

// collectHotKeys exports how hot the hot keys are, without their names: these would be labels without an end.
func (o Keys) collectHotKeys(ctx context.Context, out chan<- prometheus.Metric) {
	if o.HotKeys == nil {
		return
	}
	rows, err := o.HotKeys(ctx, hotkeys.ByCommands, hotkeys.MaxRows)
	if err != nil {
		out <- prometheus.NewInvalidMetric(descHotKeys, err)
		return
	}
	hot, hottest := 0, 0.0
	for _, r := range rows {
		if hottest = max(hottest, r.Share); r.Share >= hotFrom {
			hot++
		}
	}
	out <- prometheus.MustNewConstMetric(descHotKeys, prometheus.GaugeValue, float64(hot))
	out <- prometheus.MustNewConstMetric(descHottest, prometheus.GaugeValue, hottest)
}
