package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/upgrade"
)

// A process that another one replaces keeps its sockets until the other one serves: so no client
// is refused, and if the other one fails, this one goes on.

// SendListeners sends the successor the listening sockets of a pool.
func SendListeners(pool string, s *Server, to *upgrade.Conn) error {
	s.listening.Lock()
	defer s.listening.Unlock()
	for _, l := range s.listeners {
		if err := SendSockets(to, pool, l.addr, l.sockets...); err != nil {
			return err
		}
	}
	return nil
}

// SendSockets sends the successor the sockets of one address of a pool, under a name.
func SendSockets(to *upgrade.Conn, pool, name string, sockets ...net.Listener) error {
	var descriptors []int
	for _, ln := range sockets {
		raw, err := ln.(syscall.Conn).SyscallConn()
		if err != nil {
			return fmt.Errorf("handing over %s: %w", name, err)
		}
		// The descriptor stays open, because nothing closes the listener meanwhile.
		if err := raw.Control(func(fd uintptr) { descriptors = append(descriptors, int(fd)) }); err != nil {
			return fmt.Errorf("handing over %s: %w", name, err)
		}
		if u, ok := ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // the file belongs to the successor
		}
	}
	return to.Send(upgrade.Message{Kind: upgrade.Listener, Pool: pool, Name: name}, descriptors...)
}

// ListenersOf returns the listeners of descriptors that a predecessor has sent.
func ListenersOf(name string, descriptors []int) (sockets []net.Listener, err error) {
	for i, fd := range descriptors {
		f := os.NewFile(uintptr(fd), name)
		ln, err := net.FileListener(f)
		f.Close() // net.FileListener has made a copy
		if err != nil {
			upgrade.CloseAll(descriptors[i+1:])
			return sockets, fmt.Errorf("taking over %s: %w", name, err)
		}
		sockets = append(sockets, ln)
	}
	return sockets, nil
}

// handover is the passage of this process's clients to the one that replaces it.
type handover struct {
	pools  Pools
	outbox chan parcel
	ended  chan struct{} // closed when it has ended
	broken chan error    // why the successor does not answer any more
}

// Pools are the servers of a process, by the names of their pools.
type Pools map[string]*Server

func (p Pools) onThreads(f func(pool string, t *thread)) {
	for name, s := range p {
		s.onThreads(func(t *thread) { f(name, t) })
	}
}

// HandOver makes the successor serve: it gets the subscribers and the connections on which nodes
// publish, accepts clients from then on, and gets each client of this process as soon as that is
// between two commands. HandOver returns when no client is left that could go over, or after
// patience. An error means that the successor has failed; then this process goes on with the
// clients that are still here. Otherwise this process does not accept any more.
func HandOver(ctx context.Context, pools Pools, to *upgrade.Successor, patience time.Duration) error {
	h := &handover{pools, make(chan parcel, 1024), make(chan struct{}), make(chan error, 1)}
	defer close(h.ended)
	go h.send(to.Conn)
	pools.onThreads(func(pool string, t *thread) {
		rest(t, true)
		t.passage = &passage{of: h, pool: pool, t: t, sent: map[uint64]*client{}}
	})
	go func() { h.broken <- h.hear(to.Conn) }()
	err := h.passSubscribers()
	if err == nil {
		err = h.letServe(ctx)
	}
	if err == nil {
		err = h.passClients(ctx, patience)
	}
	if err != nil {
		to.Kill() // it must not serve a client that this process serves again
		pools.onThreads(func(_ string, t *thread) { t.passage.end() })
		return fmt.Errorf("process %d, which was to replace this one, has failed: %w", to.PID(), err)
	}
	for _, s := range pools {
		s.closeListeners()
		s.listeners = nil
	}
	pools.onThreads(func(_ string, t *thread) {
		for _, a := range t.acceptors {
			a.close()
		}
		t.acceptors = nil
		t.passage.end() // what is left is closed, or goes on until then
	})
	return to.Send(upgrade.Message{Kind: upgrade.End})
}

// letServe makes the successor accept clients.
func (h *handover) letServe(ctx context.Context) error {
	for pool, s := range h.pools {
		ids, err := askThreads(ctx, s, proxy.LastID)
		if err != nil {
			return fmt.Errorf("asking the threads for the ids of their clients: %w", err)
		}
		m := upgrade.Message{Kind: upgrade.Serve, Pool: pool, ID: slices.Max(ids)}
		h.outbox <- parcel{Message: m, descriptor: -1}
	}
	return nil
}

const (
	// answerTime is how long the successor may take to answer whether it takes a client.
	answerTime = 5 * time.Second
	// subscriberTime is how long subscribers may take to become ready. Clients that connect
	// meanwhile wait in the kernel.
	subscriberTime = time.Second
)

// passSubscribers sends the successor the subscribers and the feeds, and waits for its answers.
func (h *handover) passSubscribers() error {
	until := time.Now().Add(subscriberTime)
	return h.pass(func(p *passage) (left int) {
		if !p.passSubscribers(time.Now().After(until)) {
			return 1
		}
		return 0
	}, until)
}

// passClients returns when no client is left that could go over and each answer has come. After
// patience, or when ctx ends, no more clients go over.
func (h *handover) passClients(ctx context.Context, patience time.Duration) error {
	until := time.Now().Add(patience)
	return h.pass(func(p *passage) (left int) {
		if time.Now().After(until) || ctx.Err() != nil {
			return 0
		}
		return p.passClients()
	}, until)
}

// pass lets the threads send clients until none is left and all are answered. It fails if answers
// lack for long after a time.
func (h *handover) pass(send func(*passage) (left int), until time.Time) error {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-h.broken:
			return err
		case <-look.C:
		}
		var left, unanswered atomic.Int64
		h.pools.onThreads(func(_ string, t *thread) {
			left.Add(int64(send(t.passage)))
			unanswered.Add(int64(len(t.passage.sent)))
		})
		switch {
		case left.Load()+unanswered.Load() == 0:
			return nil
		case time.Since(until) > answerTime:
			return fmt.Errorf("it has not answered whether it takes %d clients", unanswered.Load())
		}
	}
}

// hear passes the successor's answers to the threads, until the conversation ends.
func (h *handover) hear(from *upgrade.Conn) error {
	for {
		m, descriptors, err := from.Receive()
		if err != nil {
			return err
		}
		upgrade.CloseAll(descriptors)
		s := h.pools[m.Pool]
		if s == nil {
			return fmt.Errorf("it says %q of the pool %q, which there is not", m.Kind, m.Pool)
		}
		t := threadOf(s, m.ID)
		switch m.Kind {
		case upgrade.Taken, upgrade.Refused:
			t.loop.Post(func() { t.passage.answered(m) })
		default:
			return fmt.Errorf("it says %q", m.Kind)
		}
	}
}

// threadOf returns the thread that serves the client with an id.
func threadOf(s *Server, id uint64) *thread { return s.threads[(id-1)%uint64(len(s.threads))] }

// parcel is a message on its way to the other process.
type parcel struct {
	upgrade.Message
	descriptor int
	isCopy     bool // the descriptor is closed when it is sent
}

// send sends the parcels. If that fails, so does hearing answers.
func (h *handover) send(to *upgrade.Conn) {
	for {
		select {
		case p := <-h.outbox:
			var with []int
			if p.descriptor >= 0 {
				with = []int{p.descriptor}
			}
			_ = to.Send(p.Message, with...)
			if p.isCopy {
				upgrade.CloseAll(with)
			}
		case <-h.ended:
			return
		}
	}
}

// passage is the way of a thread's clients to the process that replaces this one.
type passage struct {
	of     *handover
	pool   string
	t      *thread
	sent   map[uint64]*client // by id: the other process has not answered yet
	taken  []*client          // subscribers that the other process has
	begun  bool               // the subscribers that can go over are on their way
	passed bool               // they are sent, so that other clients may follow
}

// passSubscribers sends the subscribers and the feeds, all in one turn, once each subscriber is
// between two commands and each node has confirmed its subscriptions. If it is late, those that
// are not ready stay.
func (p *passage) passSubscribers(late bool) (done bool) {
	if p.begun {
		return p.passed
	}
	var ready []*client
	waits := false
	p.t.worker.Each(func(s *proxy.Session) {
		if !proxy.Subscribes(s) {
			proxy.PrepareToGo(s) // it must not subscribe here any more
			return
		}
		c := s.Bind.(*client)
		switch _, plain := descriptorOf(c.sock); {
		case !plain:
		case proxy.PrepareSubscriberToGo(s) == proxy.ReadyToGo:
			ready = append(ready, c)
		case proxy.PrepareSubscriberToGo(s) == proxy.GoesSoon:
			waits = true
		}
	})
	feeds, sources, ok := p.feeds()
	if (waits || !ok) && !late {
		return false
	}
	p.begun = true
	if !ok || len(ready) == 0 {
		for _, f := range feeds {
			upgrade.CloseAll([]int{f.descriptor})
		}
		p.passed = true
		return true
	}
	p.t.worker.Subscriptions.LetGo()
	for _, b := range sources {
		b.hangup() // at once: what it reads would be lost
	}
	for _, c := range ready {
		if m, ok := p.subscriber(c); ok {
			feeds = append(feeds, m)
		}
	}
	go func() {
		for _, f := range feeds {
			select {
			case p.of.outbox <- f:
			case <-p.of.ended:
				return
			}
		}
		p.t.loop.Post(func() { p.passed = true })
	}()
	return false
}

// feeds returns the thread's feeds. ok is false if they cannot go over, now or at all.
func (p *passage) feeds() (parcels []parcel, sources []*backend, ok bool) {
	feeds, ok := p.t.worker.Subscriptions.Carried()
	if !ok {
		return nil, nil, false
	}
	for _, f := range feeds {
		b, _ := f.Bind.(*backend)
		descriptor, plain := -1, false
		if b != nil && b.sock != nil {
			descriptor, plain = descriptorOf(b.sock)
		}
		var err error
		if plain {
			descriptor, err = unix.FcntlInt(uintptr(descriptor), unix.F_DUPFD_CLOEXEC, 0)
		}
		if !plain || err != nil {
			for _, earlier := range parcels {
				upgrade.CloseAll([]int{earlier.descriptor})
			}
			return nil, nil, false
		}
		sources = append(sources, b)
		parcels = append(parcels, parcel{upgrade.Message{
			Kind: upgrade.Feed, Pool: p.pool, Name: f.Addr, Thread: p.t.index, Primary: f.Primary,
			Part: slices.Clone(f.Part),
		}, descriptor, true})
	}
	return parcels, sources, true
}

// subscriber returns a subscriber that leaves. One that does not read its messages is closed
// instead.
func (p *passage) subscriber(c *client) (m parcel, ok bool) {
	var output []byte
	for b := c.session.Output(); len(b) > 0 && len(output) <= upgrade.MaxClient; b = c.session.Output() {
		n := 0
		if len(output) == 0 {
			n, _ = c.sock.Write(b) // the successor notices an error
		}
		output = append(output, b[max(n, 0):]...)
		c.session.Wrote(len(b))
	}
	form := proxy.WriteDown(c.session, output)
	if len(form) > upgrade.MaxClient {
		c.close()
		return parcel{}, false
	}
	descriptor, _ := descriptorOf(c.sock)
	c.isAway = true
	c.sock.Watch(false, false)
	p.sent[c.session.ID()] = c
	return parcelOf(c, form, descriptor), true
}

func parcelOf(c *client, form []byte, descriptor int) parcel {
	m := upgrade.Message{Kind: upgrade.Client, Pool: c.t.passage.pool, ID: c.session.ID(), Client: form}
	return parcel{m, descriptor, false}
}

// passClients sends the clients that are ready, and returns how many may still go over.
func (p *passage) passClients() (left int) {
	p.t.worker.Each(func(s *proxy.Session) {
		if c := s.Bind.(*client); p.mayGo(c) {
			left++
			p.next(c)
		}
	})
	return left
}

// mayGo reports whether a client can go over, now or later.
func (p *passage) mayGo(c *client) bool {
	return !c.isAway && !c.stays && !c.gone && proxy.PrepareToGo(c.session) != proxy.NeverGoes
}

// next sends a client over if it is ready.
func (p *passage) next(c *client) {
	if !p.passed || c.isAway || c.stays || c.gone || proxy.PrepareToGo(c.session) != proxy.ReadyToGo {
		return
	}
	descriptor, plain := descriptorOf(c.sock)
	form := proxy.WriteDown(c.session, nil)
	if !plain || len(form) > upgrade.MaxClient {
		p.keep(c)
		return
	}
	select {
	case p.of.outbox <- parcelOf(c, form, descriptor):
		c.isAway = true
		c.sock.Watch(false, false)
		p.sent[c.session.ID()] = c
	default: // later
	}
}

// keep goes on with a client that cannot go over.
func (p *passage) keep(c *client) {
	c.isAway, c.stays = false, true
	proxy.GoOn(c.session)
}

// answered ends a client here, or goes on with it.
func (p *passage) answered(m upgrade.Message) {
	if p == nil {
		return
	}
	c := p.sent[m.ID]
	delete(p.sent, m.ID)
	switch {
	case c == nil || c.gone:
	case m.Kind == upgrade.Taken && proxy.Subscribes(c.session):
		p.taken = append(p.taken, c)
	case m.Kind == upgrade.Taken:
		c.close()
	default:
		p.t.srv.log.Warn("the new process does not take a client over", "client", m.ID, "reason", m.Reason)
		p.keep(c)
	}
}

// end ends the passage: the thread goes on with the clients that are still here.
func (p *passage) end() {
	t := p.t
	t.passage = nil
	for _, c := range p.taken {
		c.close()
	}
	t.worker.Each(func(s *proxy.Session) {
		c := s.Bind.(*client)
		c.isAway = false
		proxy.GoOn(s)
	})
	rest(t, false)
}

// ErrHandedOver is the cause of the end of Run's context if another process serves: there is nothing
// to wait for before the remaining clients are closed.
var ErrHandedOver = errors.New("another process serves")

// TakeOver serves the clients of the process that this one replaces, until none follows. A message
// makes this process accept clients; then TakeOver calls serves, once for each pool.
func TakeOver(pools Pools, from *upgrade.Conn, serves func()) error {
	for {
		m, descriptors, err := from.Receive()
		if err != nil {
			return err
		}
		s := pools[m.Pool]
		switch {
		case m.Kind == upgrade.End:
			return nil
		case s == nil: // the configuration has no such pool any more
			upgrade.CloseAll(descriptors)
			if m.Kind == upgrade.Client {
				refuse(from, m, "there is no such pool")
			}
		case m.Kind == upgrade.Serve:
			s.onThreads(func(t *thread) {
				proxy.LaterIDs(t.worker, m.ID)
				t.inherited.goOn()
				rest(t, false)
			})
			serves()
		case m.Kind == upgrade.Feed && len(descriptors) == 1 && m.Thread < len(s.threads):
			t := s.threads[m.Thread]
			t.loop.Post(func() { inherit(t, m, descriptors[0]) })
		case m.Kind == upgrade.Client && len(descriptors) == 1:
			take(s, from, m, descriptors[0])
		default:
			upgrade.CloseAll(descriptors)
			return fmt.Errorf("the process that this one replaces says %q", m.Kind)
		}
	}
}

// take begins to serve a client, and answers whether it does.
func take(s *Server, from *upgrade.Conn, m upgrade.Message, descriptor int) {
	written, err := proxy.ReadClient(m.Client)
	if err != nil {
		upgrade.CloseAll([]int{descriptor})
		refuse(from, m, err.Error())
		return
	}
	t, taken := threadOf(s, written.ID()), make(chan error, 1)
	t.loop.Post(func() {
		taken <- open(t, &written, descriptor, func() {
			go func() { _ = from.Send(upgrade.Message{Kind: upgrade.Taken, Pool: m.Pool, ID: m.ID}) }()
		})
	})
	if err := <-taken; err != nil {
		refuse(from, m, err.Error())
	}
}

// refuse answers that this process does not take a client. If that fails, so does Receive.
func refuse(from *upgrade.Conn, m upgrade.Message, reason string) {
	_ = from.Send(upgrade.Message{Kind: upgrade.Refused, Pool: m.Pool, ID: m.ID, Reason: reason})
}

// inheritedFeed is a connection on which a node publishes, of the process that this one replaces.
type inheritedFeed struct {
	descriptor int
	part       []byte   // the beginning of a message
	by         *backend // that goes on with it; nil: none yet
}

// inheritedFeeds are a thread's, by the addresses of their nodes.
type inheritedFeeds map[string]*inheritedFeed

// inherit keeps a feed for the next attempt to connect to its node.
func inherit(t *thread, m upgrade.Message, descriptor int) {
	if t.inherited == nil {
		t.inherited = inheritedFeeds{}
	}
	if before := t.inherited[m.Name]; before != nil {
		upgrade.CloseAll([]int{before.descriptor})
	}
	t.inherited[m.Name] = &inheritedFeed{descriptor: descriptor, part: m.Part}
	if m.Primary {
		t.worker.Subscriptions.Prefer(m.Name)
	}
}

// serve makes a feed go on with an inherited connection, which is read when all subscribers are here.
// It returns false if there is none.
func (feeds inheritedFeeds) serve(b *backend) bool {
	f := feeds[b.link.Addr]
	if f == nil || f.by != nil || !pool.IsFeed(b.link) {
		return false
	}
	f.by = b
	sock, err := adopt(b.t.loop, f.descriptor, b)
	if err != nil {
		b.link.Fail(b.t.now, err.Error())
		return true
	}
	b.open(sock)
	b.link.PauseReading()
	pool.Adopt(b.link, f.part, b.t.now)
	return true
}

// goOn makes the inherited feeds be read, and closes those that nobody needs.
func (feeds inheritedFeeds) goOn() {
	for addr, f := range feeds {
		delete(feeds, addr)
		if f.by != nil {
			f.by.link.ResumeReading()
		} else {
			upgrade.CloseAll([]int{f.descriptor})
		}
	}
}

// open begins to serve a client. known is called once all threads know of its subscriptions.
func open(t *thread, written *proxy.Written, descriptor int, known func()) error {
	c := &client{t: t}
	sock, err := adopt(t.loop, descriptor, c)
	if err != nil {
		return err
	}
	c.sock = sock
	if c.session, err = written.Open(t.worker, c, known); err != nil {
		sock.Close()
		return err
	}
	t.srv.clients.Add(1)
	t.worker.Received(c.session, written.Input())
	c.flush()
	return nil
}
