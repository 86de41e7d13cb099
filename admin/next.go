package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/keyway-proxy/keyway/dryrun"
)

// NextLayout tries a layout that is not in force. Its methods may be called from any
// goroutine.
type NextLayout interface {
	// Try makes keyway count, for a time, the commands that the layout of a placement (as
	// in Placement.Config) would refuse. It takes the place of a layout that is tried now.
	Try(placement []byte, forTime time.Duration) (Trial, error)
	// Tried returns what has been counted. It returns ErrNoTrial if no layout is tried.
	Tried(ctx context.Context) (Trial, error)
	// End ends the trial with that ID. It returns ErrNoTrial if another one or none runs.
	End(id string) error
}

// ErrNoTrial says that no next layout is tried.
var ErrNoTrial = errors.New("keyway tries no next layout")

// Trial is a layout that is tried, and what it would refuse.
type Trial struct {
	ID        string          `json:"id"`
	Placement string          `json:"placement"` // hash of the layout that is tried
	Since     time.Time       `json:"since"`
	Until     time.Time       `json:"until,omitzero"` // zero: as long as the file names it
	Found     dryrun.Findings `json:"found"`
}

// maxPlacement is the size of the largest placement that a request may bring.
const maxPlacement = 8 << 20

// MaxTrial is the longest time that a request may ask for.
const MaxTrial = 31 * 24 * time.Hour

// serveNext serves /next-layout: GET tells what has been counted, POST begins to try a
// layout, DELETE ends that. process says who may do the latter two.
func serveNext(mux *http.ServeMux, next NextLayout, process Options) {
	mux.HandleFunc("GET /next-layout", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), snapshotTimeout)
		defer cancel()
		t, err := next.Tried(ctx)
		answerTrial(w, t, err)
	})
	guarded := func(pattern string, f http.HandlerFunc) {
		mux.Handle(pattern, process.guarded(f, ifThereAreTokens, changesSettings))
	}
	guarded("POST /next-layout", func(w http.ResponseWriter, r *http.Request) {
		forTime, err := time.ParseDuration(r.URL.Query().Get("for"))
		if err != nil || forTime <= 0 || forTime > MaxTrial {
			answerTrial(w, Trial{}, fmt.Errorf("for: write a duration up to %s, such as 1h", MaxTrial))
			return
		}
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPlacement))
		if err != nil {
			answerTrial(w, Trial{}, fmt.Errorf("reading the placement: %w", err))
			return
		}
		t, err := next.Try(text, forTime)
		process.record(r, "counting for "+forTime.String(), err)
		answerTrial(w, t, err)
	})
	guarded("DELETE /next-layout", func(w http.ResponseWriter, r *http.Request) {
		err := next.End(r.URL.Query().Get("id"))
		process.record(r, "", err)
		answerTrial(w, Trial{}, err)
	})
}

// answerTrial answers 200 and the trial, 404 if there is none, or 400 and what is wrong.
func answerTrial(w http.ResponseWriter, t Trial, err error) {
	if err == nil {
		answerJSON(w, t)
		return
	}
	status := http.StatusBadRequest
	if errors.Is(err, ErrNoTrial) {
		status = http.StatusNotFound
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, err)
}
