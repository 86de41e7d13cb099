package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/router"
)

// Change is what a running server gets when its configuration changes.
type Change struct {
	Config  *config.Config
	Workers proxy.Options // as in Setup
	Users   bool          // those of Workers replace the present ones; otherwise these stay
	Nodes   NodeSettings  // as in Setup
	// Table replaces the present table, whatever its layout and nodes are; nil: that stays.
	// Commands under way finish at the nodes where they are; see [proxy.ReplaceLayout].
	Table    *router.Table
	Follow   bool // Follower replaces the present one
	Follower Follower
}

// Prepared is a change that cannot fail any more. Call Apply or Discard once.
type Prepared struct {
	s      *Server
	change Change
	added  []*listener
}

// Prepare opens the listeners that a server which runs gets by a change, and changes nothing
// else. Only they can fail, with a *config.Error. Changes must not overlap.
func (s *Server) Prepare(c Change) (*Prepared, error) {
	if s.Stopping() {
		return nil, errors.New("keyway is stopping; nothing was changed")
	}
	added, err := s.openAdded(c.Config)
	if err != nil {
		return nil, err
	}
	return &Prepared{s, c, added}, nil
}

// Discard closes what Prepare has opened.
func (p *Prepared) Discard() {
	for _, l := range p.added {
		l.close()
	}
}

// Apply replaces the configuration of the server. Clients stay connected, and commands under way
// finish. It returns when every thread works by the new configuration.
func (p *Prepared) Apply() {
	s, c, added := p.s, p.change, p.added
	before := s.cfg.Swap(c.Config)
	s.host.budget.setMemory(s.MemoryLimit())
	s.checkDescriptors(len(cmp.Or(c.Table, s.Table()).Nodes))
	s.exchangeListeners(c.Config, added)
	process := *s.process // the workers read the present one
	process.Port = s.port()
	s.process = &process
	s.users.mu.Lock()
	defer s.users.mu.Unlock()
	c.Workers.Users = s.chooseUsers(c)
	s.adopt(c)()
	if !c.Workers.OfNodes { // the nodes' users stay
		s.users.places.keep(c.Workers.Users)
	}
	if !slices.Equal(before.Clients.Allow, c.Config.Clients.Allow) {
		s.onThreads(closeForbidden)
	}
}

// adopt replaces the table, the follower and the workers' options. Nothing that the present
// follower has learned is published later, and nothing that the new one learns is published
// before the table. Call wait to wait until every thread works by the new ones.
func (s *Server) adopt(c Change) (wait func()) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if c.Follow {
		close(s.following.Swap(newFollowing(c.Follower)).replaced)
	}
	if c.Table != nil {
		s.table.Store(c.Table)
	}
	s.nodes.Store(&c.Nodes)
	return s.post(func(t *thread) { // no command sees one without the other
		proxy.Configure(t.worker, s.workerOptions(c.Workers, t.index)) // first: new nodes are greeted by it
		if c.Table != nil {
			proxy.ReplaceLayout(t.worker, c.Table)
		}
	})
}

// onThreads makes each thread call f, and returns when all have, or have ended.
func (s *Server) onThreads(f func(*thread)) { s.post(f)() }

// post makes each thread call f soon. wait returns when all have, or have ended.
func (s *Server) post(f func(*thread)) (wait func()) {
	called := make(chan struct{}, len(s.threads))
	for _, t := range s.threads {
		t.loop.Post(func() {
			f(t)
			called <- struct{}{}
		})
	}
	return func() {
		for _, t := range s.threads {
			select {
			case <-called:
			case <-t.done:
			}
		}
	}
}

// listener is an address of the configuration, and its sockets.
type listener struct {
	addr    string // as in the configuration
	sockets []net.Listener
	passed  bool                     // the process was started with the sockets, and others may accept there too
	of      *config.TLS              // what tls was made from
	tls     atomic.Pointer[security] // for the next clients; nil: they do not encrypt
	// balancers have the networks whose connections begin with a header of the PROXY protocol;
	// nil: clients connect by themselves.
	balancers atomic.Pointer[config.Networks]
}

// security is how a listener's clients speak TLS.
type security struct {
	*tls.Config
	of *config.TLS // what it was made from
}

// secure makes the next clients of the listener use the TLS of the configuration. While that is
// the same, so is the key of the tickets by which clients resume their sessions.
func (l *listener) secure(by *config.TLS) {
	switch {
	case by == nil:
		l.tls.Store(nil)
	case !by.Same(l.of) || l.tls.Load() == nil:
		l.tls.Store(&security{by.Server(), by})
	}
	l.of = by
}

// openAdded opens the listeners that the server does not have yet. If one fails, it closes
// the others.
func (s *Server) openAdded(c *config.Config) (added []*listener, err error) {
	s.listening.Lock()
	present := s.listeners
	s.listening.Unlock()
	var removed []net.Listener
	for _, l := range present {
		if c.Listen.Find(l.addr) == nil && !l.passed {
			removed = append(removed, l.sockets...)
		}
	}
	if err := config.LoadCertificates(c); err != nil {
		return nil, err
	}
	for i, of := range c.Listen {
		addr := of.Addr
		if slices.ContainsFunc(present, func(l *listener) bool { return l.addr == addr }) {
			continue
		}
		l := &listener{addr: addr, passed: strings.HasPrefix(addr, config.Activated)}
		l.apply(&of)
		if l.sockets, err = s.listenOn(addr, removed); err != nil {
			for _, other := range append(added, l) {
				other.close()
			}
			return nil, c.Errorf(config.ListenPath(c, i), BindRemedy(err), "cannot listen on %s: %v", addr, err)
		}
		added = append(added, l)
	}
	return added, nil
}

// exchangeListeners adds listeners, and removes those that the configuration lacks. Clients
// of a removed one stay connected, and those that wait to be accepted are accepted.
func (s *Server) exchangeListeners(c *config.Config, added []*listener) {
	s.listening.Lock()
	var kept, removed []*listener
	for _, l := range append(slices.Clone(s.listeners), added...) {
		if of := c.Listen.Find(l.addr); of != nil {
			l.apply(of)
			kept = append(kept, l)
		} else {
			removed = append(removed, l)
		}
	}
	addrs := c.Listen.Addrs()
	slices.SortFunc(kept, func(a, b *listener) int {
		return slices.Index(addrs, a.addr) - slices.Index(addrs, b.addr)
	})
	s.listeners = kept
	s.listening.Unlock()
	if len(added) > 0 {
		awaitHandshakes(removed)
	}
	s.onThreads(func(t *thread) {
		for _, l := range removed {
			t.detach(l)
		}
		for _, l := range added {
			t.listen(l)
		}
	})
	for _, l := range removed {
		l.close()
	}
}

// handshakeTime is how long connections to a removed listener may take to be complete.
const handshakeTime = 100 * time.Millisecond

// awaitHandshakes waits until no connections to the removed TCP listeners are being made.
// Clients that connect meanwhile get to another listener of the address, if there is one. Those
// of a passed socket wait for others that accept there.
func awaitHandshakes(removed []*listener) {
	any := false
	for _, l := range removed {
		for _, ln := range l.sockets {
			if !l.passed && ln.Addr().Network() == "tcp" {
				refuseHandshakes(ln)
				any = true
			}
		}
	}
	if any {
		time.Sleep(handshakeTime)
	}
}

func (l *listener) close() {
	for _, ln := range l.sockets {
		ln.Close()
	}
}

// following is a follower that runs until it is replaced.
type following struct {
	Follower               // may be nil
	replaced chan struct{} // closed when another has taken its place
}

func newFollowing(f Follower) *following { return &following{f, make(chan struct{})} }

// follow runs one follower after another until ctx ends.
func (s *Server) follow(ctx context.Context) error {
	for {
		f := s.following.Load()
		run, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		if f.Follower != nil {
			f.SetKeyways(Keyways(s))
			go func() { ended <- f.Run(run, func(t *router.Table) { s.publishOf(f, t) }) }()
		}
		select {
		case err := <-ended:
			stop()
			return err
		case <-f.replaced:
			stop()
		case <-ctx.Done():
			stop()
			if f.Follower != nil {
				<-ended
			}
			return ctx.Err()
		}
	}
}

// SetKeyways says how many keyways serve the same nodes, this one included. The more there are, the less
// often each asks the nodes about themselves. It may be called from any goroutine.
func SetKeyways(s *Server, n int) {
	if s.keyways.Swap(int64(n)) == int64(n) {
		return
	}
	if f := s.following.Load(); f.Follower != nil {
		f.SetKeyways(n)
	}
	for _, t := range s.threads {
		t.loop.Post(func() { t.worker.Keyways = n })
	}
}

// Keyways returns how many keyways serve the same nodes, this one included, as far as known.
func Keyways(s *Server) int { return max(int(s.keyways.Load()), 1) }

// publishOf publishes a table of a follower, unless the follower was replaced.
func (s *Server) publishOf(f *following, t *router.Table) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if s.following.Load() == f {
		s.publish(t)
	}
}
