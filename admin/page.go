package admin

import (
	"net/http"

	"github.com/keyway-proxy/keyway/page"
)

// LivePath is where a page gets its events. An answer ends when the browser leaves, or with the request's context. The
// server must end that context before it stops.
const LivePath = "/live"

// servePages serves the page of a pool at /, or a list of the pools, and the files that pages need.
func servePages(mux *http.ServeMux, pools func() []Pool) {
	for _, path := range page.Assets() {
		mux.HandleFunc("GET "+path, page.ServeAsset)
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		all := pools()
		names := make([]string, 0, len(all))
		for _, p := range all {
			if p.Name != "" {
				names = append(names, p.Name)
			}
		}
		switch chosen, err := choose(all, r); {
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		case len(chosen) > 1:
			page.ServePools(w, names)
		case len(chosen) == 0 || chosen[0].Options.Page == nil:
			http.NotFound(w, r)
		default:
			chosen[0].Options.Page.ServePage(w, r, names)
		}
	})
}
