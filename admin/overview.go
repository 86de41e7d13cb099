package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/slowlog"
)

// Views are what operators look at. Each may be nil: then there is no such page.
type Views struct {
	Overview func() overview.State
	Events   func(count int) []overview.Event // the last ones, the newest first
	Layout   func() *Layout
	// Clients returns the first clients, as q says, and how many there are.
	Clients       func(ctx context.Context, q clients.Query) (rows []clients.Row, total int, err error)
	SlowLog       func(ctx context.Context, count int) ([]slowlog.Row, error) // the latest first
	Subscriptions func(ctx context.Context, count int) (clients.Topics, error)
}

const (
	// usualRows is how many rows lists have unless the request says otherwise.
	usualRows = 100
	maxRows   = 10_000
	// usualSort is the column by which clients are sorted unless the request says otherwise.
	usualSort = "commands"
)

// serve serves the pages that there are.
func (o Views) serve(mux *http.ServeMux) {
	if o.Overview != nil {
		mux.HandleFunc("GET /overview", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, o.Overview()) })
	}
	if o.Layout != nil {
		mux.HandleFunc("GET /layout", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, o.Layout()) })
	}
	if o.Events != nil {
		serveList(mux, "/events", overview.MaxEvents, o.listEvents)
	}
	if o.Clients != nil {
		serveList(mux, "/clients", usualRows, o.listClients)
	}
	if o.SlowLog != nil {
		serveList(mux, "/slowlog", usualRows, func(r *http.Request, count int) (any, error) {
			rows, err := o.SlowLog(r.Context(), count)
			return struct {
				Entries []slowlog.Row `json:"slowlog"`
			}{rows}, err
		})
	}
	if o.Subscriptions != nil {
		serveList(mux, "/subscriptions", usualRows, func(r *http.Request, count int) (any, error) {
			return o.Subscriptions(r.Context(), count)
		})
	}
}

// badRequest is the error of a request that asks for what there is not.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// listClients returns the object of /clients?sort=COLUMN&count=N.
func (o Views) listClients(r *http.Request, count int) (any, error) {
	q := clients.Query{Sort: usualSort, Count: count}
	if column := r.URL.Query().Get("sort"); column != "" {
		if q.Sort = column; !slices.Contains(clients.Columns(), column) {
			return nil, badRequest("sort must be one of " + strings.Join(clients.Columns(), ", "))
		}
	}
	rows, total, err := o.Clients(r.Context(), q)
	return struct {
		Total   int           `json:"total"`
		Clients []clients.Row `json:"clients"`
	}{total, append([]clients.Row{}, rows...)}, err
}

// listEvents returns the object of /events?kind=KIND&count=N.
func (o Views) listEvents(r *http.Request, count int) (any, error) {
	kind := r.URL.Query().Get("kind")
	if kind != "" && !slices.Contains(overview.Kinds, kind) {
		return nil, badRequest("kind must be one of " + strings.Join(overview.Kinds, ", "))
	}
	return struct {
		Events []overview.Event `json:"events"`
	}{overview.OfKind(kind, count, o.Events(maxRows))}, nil
}

// serveList serves a page with a list. usual is how long that is unless the request says otherwise with count=N.
func serveList(mux *http.ServeMux, page string, usual int, list func(r *http.Request, count int) (any, error)) {
	mux.HandleFunc("GET "+page, func(w http.ResponseWriter, r *http.Request) {
		count, err := countOf(r, usual)
		var object any
		if err == nil {
			ctx, cancel := context.WithTimeout(r.Context(), snapshotTimeout)
			defer cancel()
			object, err = list(r.WithContext(ctx), count)
		}
		switch {
		case err == nil:
			answerJSON(w, object)
		case errors.As(err, new(badRequest)):
			http.Error(w, err.Error(), http.StatusBadRequest)
		default:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
}

// countOf returns the parameter count of a request, or usual if it has none. It is at most maxRows.
func countOf(r *http.Request, usual int) (int, error) {
	text := r.URL.Query().Get("count")
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, badRequest("count must be a number above 0, such as count=100")
	}
	return min(n, maxRows), nil
}
