package admin

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/keyway-proxy/keyway/overview"
)

// Views are what operators look at. Each may be nil: then there is no such page.
type Views struct {
	Overview func() overview.State
	Events   func(count int) []overview.Event // the last ones, the newest first
}

// serve serves /overview and /events.
func (o Views) serve(mux *http.ServeMux) {
	if o.Overview != nil {
		mux.HandleFunc("GET /overview", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, o.Overview()) })
	}
	if o.Events != nil {
		mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
			count, err := countOf(r, overview.MaxEvents, overview.MaxEvents)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			answerJSON(w, struct {
				Events []overview.Event `json:"events"`
			}{o.Events(count)})
		})
	}
}

// countOf returns the parameter count of a request, or usual if it has none. It is at most most.
func countOf(r *http.Request, usual, most int) (int, error) {
	text := r.URL.Query().Get("count")
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("count must be a number above 0, such as count=100")
	}
	return min(n, most), nil
}
