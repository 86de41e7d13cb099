package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/keyway-proxy/keyway/admin"
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
	if before.addr == cfg.Admin.Listen {
		return before, nil
	}
	l := &adminListener{addr: cfg.Admin.Listen}
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
			if err := r.serveHTTP(ctx, l.ln, handler); err != nil {
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
func (r *running) serveHTTP(ctx context.Context, ln net.Listener, h http.Handler) error {
	of := securing{ln, func() *config.TLS { return r.first().cfg.Load().Admin.TLS }}
	srv := &http.Server{
		Handler: endingWith(ctx, of.endOutdated(h)), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(r.log.With("addr", ln.Addr().String()).Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		stopped <- srv.Shutdown(end)
	}()
	if err := srv.Serve(of); ctx.Err() == nil {
		return fmt.Errorf("serving: %w", err)
	}
	if err := <-stopped; !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// securing makes each connection that a listener accepts speak TLS if the configuration that is in force then says so.
type securing struct {
	net.Listener
	by func() *config.TLS // nil: operators do not encrypt
}

// Accept implements net.Listener.
func (l securing) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if by := l.by(); by != nil {
		return tls.Server(conn, by.Server()), nil
	}
	return conn, nil
}

// endOutdated makes connections end after the next request that have been accepted before TLS was switched on or off.
func (l securing) endOutdated(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (l.by() != nil) != (r.TLS != nil) {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// logAdmin warns if the token of operators can be read by others.
func (r *running) logAdmin() {
	for _, warning := range config.AdminWarnings(r.first().cfg.Load()) {
		r.log.Warn(warning)
	}
}

// endingWith ends the answers that go on for as long as a browser watches the page when ctx ends. The server would wait
// for them.
func endingWith(ctx context.Context, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == admin.LivePath {
			until, end := context.WithCancel(r.Context())
			defer end()
			defer context.AfterFunc(ctx, end)()
			r = r.WithContext(until)
		}
		h.ServeHTTP(w, r)
	})
}
