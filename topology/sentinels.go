package topology

import (
	"context"
	"crypto/tls"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/control"
)

// Sentinels are the connections to sentinels that the followers of several masters share. The zero value is ready for
// use.
type Sentinels struct {
	mu sync.Mutex
	of map[sentinelKey]*sentinelServer
}

// sentinelKey is what connections must have in common to be shared.
type sentinelKey struct {
	addr, username, password string
	printed                  control.Printed
	tls                      *tls.Config
	section                  string // of TLS in the configuration, which may make a tls.Config for each use
}

// sentinelServer is one sentinel.
type sentinelServer struct {
	*redis.SentinelClient
	users int // in Sentinels.of; guarded by Sentinels.mu

	mu        sync.Mutex
	listeners map[*Sentinel]struct{}
	stop      context.CancelFunc // ends hear
	ended     chan struct{}      // closed when hear has ended
}

// sentinelConnections is how many connections for questions all masters together have to a sentinel, at most.
const sentinelConnections = 4

// open returns the server at addr, which release has to be called for.
func (all *Sentinels) open(addr string, as control.Account) (s *sentinelServer, release func()) {
	all.mu.Lock()
	defer all.mu.Unlock()
	key := sentinelKey{addr, as.Username, as.Password, as.Printed, as.TLS, as.TLSSection}
	if as.TLS != nil && as.TLSSection != "" {
		key.tls = nil
	}
	if s = all.of[key]; s == nil {
		o := asking(addr, as, askTimeout)
		o.Connections = sentinelConnections
		s = &sentinelServer{
			SentinelClient: control.NewSentinelClient(o), listeners: map[*Sentinel]struct{}{},
		}
		if all.of == nil {
			all.of = map[sentinelKey]*sentinelServer{}
		}
		all.of[key] = s
	}
	s.users++
	return s, sync.OnceFunc(func() {
		all.mu.Lock()
		defer all.mu.Unlock()
		if s.users--; s.users == 0 {
			delete(all.of, key)
			s.Close()
		}
	})
}

// listen refreshes a master's follower, until ctx ends, when the sentinel announces another master. One connection
// listens for all masters.
func (s *sentinelServer) listen(ctx context.Context, of *Sentinel) {
	s.mu.Lock()
	s.listeners[of] = struct{}{}
	if len(s.listeners) == 1 {
		hearing, stop := context.WithCancel(context.Background())
		s.stop, s.ended = stop, make(chan struct{})
		go s.hear(hearing, s.ended)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	delete(s.listeners, of)
	ended := s.ended
	isLast := len(s.listeners) == 0
	if isLast {
		s.stop()
	}
	s.mu.Unlock()
	if isLast {
		<-ended
	}
}

// hear hears what the sentinel announces.
func (s *sentinelServer) hear(ctx context.Context, ended chan struct{}) {
	defer close(ended)
	announced := s.Subscribe(ctx, "+switch-master")
	defer announced.Close()
	messages := announced.Channel() // reconnects by itself
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-messages:
			if m != nil {
				s.announce(m.Payload)
			}
		}
	}
}

func (s *sentinelServer) announce(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for of := range s.listeners {
		if strings.HasPrefix(message, of.o.Master+" ") {
			of.Refresh(nil)
		}
	}
}
