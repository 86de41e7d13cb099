package daemon

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

// adminListener accepts requests at the admin address.
type adminListener struct {
	addr string             // as in the configuration; empty: there is none
	ln   net.Listener       // nil: there is none
	stop context.CancelFunc // ends serving them; nil: it has not begun
}

// listenAdmin opens the admin address of a configuration. If before has the same address,
// listenAdmin returns before.
func listenAdmin(cfg *config.Config, before *adminListener) (*adminListener, error) {
	if before.addr == cfg.Admin {
		return before, nil
	}
	l := &adminListener{addr: cfg.Admin}
	if l.addr == "" {
		return l, nil
	}
	var removed []net.Listener
	if before.ln != nil {
		removed = append(removed, before.ln)
	}
	var err error
	if l.ln, err = server.ListenBeside(l.addr, removed); err != nil {
		return nil, cfg.Errorf("admin", server.BindRemedy(err), "cannot listen on %s: %v", l.addr, err)
	}
	return l, nil
}

// close closes an address at which serving has not begun.
func (l *adminListener) close() {
	if l.ln != nil && l.stop == nil {
		l.ln.Close()
	}
}

// serveAdmin serves l until ctx ends, and no longer those that it has served before. It
// answers requests under way, such as the one for this reload.
func (r *running) serveAdmin(ctx context.Context, l *adminListener) {
	before := r.admin
	if before == l {
		return
	}
	r.admin = l
	if l.ln != nil {
		r.log.Info("serving metrics, health and readiness", "addr", l.ln.Addr().String())
		handler := r.adminHandler(ctx)
		ctx, l.stop = context.WithCancel(ctx)
		r.watchers.Go(func() {
			if err := serveHTTP(ctx, l.ln, handler); err != nil {
				r.log.Error("the admin address is not served any more", "addr", l.addr, "error", err)
			}
		})
	}
	if before.stop != nil {
		before.stop()
		before.ln.Close() // now, so that the next request gets to l
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
