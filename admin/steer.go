package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// serve serves the pages that there are. process says who may act.
func (o Acts) serve(mux *http.ServeMux, process Options) {
	if o.Kill != nil {
		process.serveOrder(mux, "/clients/kill", always, killsClients, func(r *http.Request) (string, error) {
			id, err := strconv.ParseUint(r.URL.Query().Get("id"), 10, 64)
			if err != nil {
				return "", BadRequest(errors.New("id: write the id of a client, as CLIENT LIST shows it"))
			}
			ctx, cancel := context.WithTimeout(r.Context(), snapshotTimeout)
			defer cancel()
			return o.Kill(ctx, id)
		})
	}
	if o.PauseClients != nil {
		servePause(mux, o.PauseClients, process)
	}
	if o.Steering != nil {
		serveSwitch(mux, o.Steering, process)
	}
}

// Steering steers a change of the layout, as the commands of the same names do. Each method returns what to print. by
// is the operator's name, or where the request came from, for the records of the change.
type Steering interface {
	Pause(ctx context.Context, by string) (report string, err error)
	Resume(ctx context.Context, by string) (report string, err error)
	// Rate takes a number of keys per second, auto or unlimited.
	Rate(ctx context.Context, by, rate string) (report string, err error)
	Cancel(ctx context.Context, by string) (report string, err error)
	// Reverse returns when all nodes are in the epoch that takes the change back.
	Reverse(ctx context.Context, by string) (report string, err error)
}

// The pages that steer a change of the layout.
const (
	SwitchPause   = "/switch/pause"
	SwitchResume  = "/switch/resume"
	SwitchRate    = "/switch/rate"
	SwitchCancel  = "/switch/cancel"
	SwitchReverse = "/switch/reverse"
)

// serveSwitch serves the pages that steer a change of the layout. process says who may.
func serveSwitch(mux *http.ServeMux, s Steering, process Options) {
	for page, do := range map[string]func(context.Context, string) (string, error){
		SwitchPause: s.Pause, SwitchResume: s.Resume, SwitchCancel: s.Cancel, SwitchReverse: s.Reverse,
	} {
		process.serveOrder(mux, page, always, movesKeys, func(r *http.Request) (string, error) {
			return do(r.Context(), process.askedBy(r))
		})
	}
	process.serveOrder(mux, SwitchRate, always, movesKeys, func(r *http.Request) (string, error) {
		return s.Rate(r.Context(), process.askedBy(r), r.URL.Query().Get("keys"))
	})
}

// askedBy names who has sent a request.
func (o Options) askedBy(r *http.Request) string {
	if name := o.operator(r); name != "" {
		return name + " at " + r.RemoteAddr
	}
	return r.RemoteAddr
}

// The pages that make clients wait, and end that, as CLIENT PAUSE and CLIENT UNPAUSE do.
const (
	ClientsPause   = "/clients/pause"
	ClientsUnpause = "/clients/unpause"
)

// MaxPause is the longest time for which a request may make clients wait.
const MaxPause = time.Hour

// PauseClients makes the commands of clients wait for some time, only those that may write if writesOnly is true. 0
// ends all such waiting.
type PauseClients func(ctx context.Context, forTime time.Duration, writesOnly bool) error

// servePause serves the pages that make clients wait. process says who may.
func servePause(mux *http.ServeMux, pause PauseClients, process Options) {
	process.serveOrder(mux, ClientsPause, always, pausesClients, func(r *http.Request) (string, error) {
		forTime, err := time.ParseDuration(r.URL.Query().Get("for"))
		if err != nil || forTime <= 0 || forTime > MaxPause {
			return "", BadRequest(fmt.Errorf("for: write a duration up to %s, such as 10s", MaxPause))
		}
		mode := r.URL.Query().Get("mode")
		if mode != "write" && mode != "all" {
			return "", BadRequest(errors.New("mode: write write or all"))
		}
		ctx, cancel := context.WithTimeout(r.Context(), snapshotTimeout)
		defer cancel()
		if err := pause(ctx, forTime, mode == "write"); err != nil {
			return "", err
		}
		what := "all commands of clients"
		if mode == "write" {
			what = "commands of clients that may write"
		}
		return fmt.Sprintf("%s wait for %s\n", what, forTime), nil
	})
	process.serveOrder(mux, ClientsUnpause, always, unpausesClients, func(r *http.Request) (string, error) {
		ctx, cancel := context.WithTimeout(r.Context(), snapshotTimeout)
		defer cancel()
		return "clients go on\n", pause(ctx, 0, false)
	})
}
