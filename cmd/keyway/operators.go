package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/server"
)

// operators are those who ask at the admin address.
type operators struct {
	addr string             // as in the configuration; empty: there is none
	ln   net.Listener       // nil: there is none
	stop context.CancelFunc // ends serving them; nil: it has not begun
}

// listenAdmin opens the admin address of a configuration. If before has the same address,
// listenAdmin returns before.
func listenAdmin(cfg *config.Config, before *operators) (*operators, error) {
	if before.addr == cfg.Admin {
		return before, nil
	}
	o := &operators{addr: cfg.Admin}
	if o.addr == "" {
		return o, nil
	}
	var removed []net.Listener
	if before.ln != nil {
		removed = append(removed, before.ln)
	}
	var err error
	if o.ln, err = server.ListenBeside(o.addr, removed); err != nil {
		return nil, cfg.Errorf("admin", server.BindRemedy(err), "cannot listen on %s: %v", o.addr, err)
	}
	return o, nil
}

// close closes an address at which serving has not begun.
func (o *operators) close() {
	if o.ln != nil && o.stop == nil {
		o.ln.Close()
	}
}

// serveAdmin serves o until ctx ends, and no longer those that it has served before. It
// answers requests under way, such as the one for this reload.
func (r *running) serveAdmin(ctx context.Context, o *operators) {
	before := r.operators
	if before == o {
		return
	}
	r.operators = o
	if o.ln != nil {
		r.log.Info("serving metrics, health and readiness", "addr", o.ln.Addr().String())
		handler := r.adminHandler(ctx)
		ctx, o.stop = context.WithCancel(ctx)
		r.watchers.Go(func() {
			if err := serveHTTP(ctx, o.ln, handler); err != nil {
				r.log.Error("the admin address is not served any more", "addr", o.addr, "error", err)
			}
		})
	}
	if before.stop != nil {
		before.stop()
		before.ln.Close() // now, so that the next request gets to o
	}
}

// serveHTTP serves until ctx ends, and then answers the requests under way.
func serveHTTP(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		stopped <- srv.Shutdown(end)
	}()
	if err := srv.Serve(ln); ctx.Err() == nil {
		return fmt.Errorf("serving: %w", err)
	}
	if err := <-stopped; !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
