package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

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
		if err := to.SendListeners(pool, l.addr, l.sockets...); err != nil {
			return err
		}
	}
	return nil
}

// handover is the passage of this process's clients to the one that replaces it.
type handover struct {
	pools     Pools
	listeners map[*Server][]*listener // that the servers have back if the successor fails
	outbox    chan parcel
	ended     chan struct{} // closed when it has ended
	broken    chan error    // why the successor does not answer any more
	answers   atomic.Int64
}

// Pools are the servers of a process, by the names of their pools.
type Pools map[string]*Server

func (p Pools) onThreads(f func(pool string, t *thread)) {
	for name, s := range p {
		s.onThreads(func(t *thread) { f(name, t) })
	}
}

// HandOver makes the successor serve: it gets the subscribers and the connections on which nodes
// publish. Then HandOver calls served, and the successor accepts clients, and gets each client of
// this process as soon as that is between two commands. HandOver returns when no client is left
// that could go over, or after patience. An error means that the successor has failed; then this
// process goes on with the clients that are still here. Otherwise it does not accept any more.
func HandOver(ctx context.Context, pools Pools, to *upgrade.Successor, patience time.Duration, served func()) error {
	h := &handover{
		pools: pools, listeners: map[*Server][]*listener{}, outbox: make(chan parcel, 1024),
		ended: make(chan struct{}), broken: make(chan error, 2),
	}
	heard := make(chan struct{})
	for _, s := range pools {
		h.listeners[s] = swapListeners(s, nil) // they are not to be closed as when keyway stops
	}
	pools.onThreads(func(pool string, t *thread) {
		rest(t, true)
		t.passage = &passage{of: h, pool: pool, t: t, since: t.now - busyTime, sent: map[uint64]*client{}}
	})
	go h.send(to.Conn)
	go func() {
		h.broken <- h.hear(to.Conn)
		close(heard)
	}()
	err := h.handOver(ctx, to.Conn, patience, served)
	close(h.ended)
	if err != nil {
		to.Kill()         // it must not serve a client that this process serves again
		to.ReadNoLonger() // than until its last answer
		<-heard
		pools.onThreads(func(_ string, t *thread) {
			t.passage.end()
			rest(t, t.draining)
		})
		for s, listeners := range h.listeners {
			swapListeners(s, listeners)
			if s.Stopping() {
				s.closeListeners()
			}
		}
		return fmt.Errorf("process %d, which was to replace this one, has failed: %w", to.PID(), err)
	}
	pools.onThreads(func(_ string, t *thread) {
		for _, a := range t.acceptors {
			a.close()
		}
		t.acceptors = nil
		t.passage.end() // what is left is closed, or goes on until then
	})
	for _, listeners := range h.listeners {
		for _, l := range listeners {
			l.leaveFile()
			l.close()
		}
	}
	return nil
}

func (h *handover) handOver(ctx context.Context, to *upgrade.Conn, patience time.Duration, served func()) error {
	began := time.Now()
	waits := func(unless func(*passage, time.Duration) bool) error {
		return h.pass(func(p *passage) (left int) {
			if ctx.Err() != nil || unless(p, time.Since(began)) {
				return 0
			}
			return 1
		})
	}
	err := waits(func(p *passage, waited time.Duration) bool {
		_, ok := p.prepare(waited)
		return ok
	})
	if err == nil { // all threads are prepared: the feeds rest for a moment only
		err = waits((*passage).passSubscribers)
	}
	if err == nil {
		err = h.letServe(ctx, to)
	}
	if err != nil {
		return err
	}
	served()
	began = time.Now()
	err = h.pass(func(p *passage) (left int) {
		if time.Since(began) > patience || ctx.Err() != nil {
			return 0
		}
		return p.passClients()
	})
	if err != nil {
		return err
	}
	return to.Send(upgrade.Message{Kind: upgrade.End})
}

// letServe makes the successor serve. From then on, the subscribers are its own.
func (h *handover) letServe(ctx context.Context, to *upgrade.Conn) error {
	if ctx.Err() != nil {
		return errors.New("keyway is stopping")
	}
	for pool, s := range h.pools {
		ids, err := askThreads(ctx, s, proxy.LastID)
		if err != nil {
			return fmt.Errorf("asking the threads for the ids of their clients: %w", err)
		}
		if err := to.Send(upgrade.Message{Kind: upgrade.Serve, Pool: pool, ID: slices.Max(ids)}); err != nil {
			return err
		}
		s.onThreads(func(t *thread) { t.passage.giveAway() })
	}
	return nil
}

const (
	// answerTime is how long the successor may leave clients unanswered without answering any.
	answerTime = 10 * time.Second
	// subscriberTime is how long subscribers may take to become ready. All clients wait meanwhile.
	subscriberTime = time.Second
	// feedTime is how long nodes may take to answer what was sent to them over the feeds.
	feedTime = 3 * time.Second
)

// pass lets the threads send clients until none is left and all are answered.
func (h *handover) pass(send func(*passage) (left int)) error {
	const interval = 5 * time.Millisecond
	look := time.NewTicker(interval)
	defer look.Stop()
	last, silent := time.Now(), time.Duration(0)
	for answers := h.answers.Load(); ; {
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
		silent += min(time.Since(last), 20*interval) // no more, if this process was suspended
		last = time.Now()
		if now := h.answers.Load(); now != answers || unanswered.Load() == 0 {
			answers, silent = now, 0
		}
		switch {
		case left.Load()+unanswered.Load() == 0:
			return nil
		case silent > answerTime:
			return fmt.Errorf("it has not answered for %s whether it takes %d clients", answerTime, unanswered.Load())
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
		switch m.Kind {
		case upgrade.Taken, upgrade.Refused:
			h.answers.Add(1)
			h.tell(s, m)
		default:
			return fmt.Errorf("it says %q", m.Kind)
		}
	}
}

// tell makes a thread act on an answer.
func (h *handover) tell(s *Server, m upgrade.Message) {
	t := threadOf(s, m.ID)
	t.loop.Post(func() { t.passage.answered(m) })
}

// threadOf returns the thread that serves the client with an id.
func threadOf(s *Server, id uint64) *thread { return s.threads[(id-1)%uint64(len(s.threads))] }

// parcel is a message on its way to the other process, with a descriptor.
type parcel struct {
	upgrade.Message
	descriptor int
}

// send sends the parcels.
func (h *handover) send(to *upgrade.Conn) {
	for {
		select {
		case p := <-h.outbox:
			err := to.Send(p.Message, p.descriptor)
			switch {
			case err == nil:
			case p.Kind == upgrade.Client:
				p.Kind, p.Reason = upgrade.Refused, err.Error()
				h.tell(h.pools[p.Pool], p.Message)
			default:
				h.broken <- err
				return
			}
		case <-h.ended:
			return
		}
	}
}

// passage is the way of a thread's clients to the process that replaces this one.
type passage struct {
	of    *handover
	pool  string
	t     *thread
	since int64              // clients that were active since then go first
	sent  map[uint64]*client // by id: the other process has not answered yet
	taken []*client          // subscribers that the other process has
	lent  []*backend         // the connections on which nodes publish

	begun  bool // the subscribers that can go over are on their way
	passed bool // they are sent
	serves bool // the other process serves: the clients may follow
	isAsIs bool // no subscriber can go over: they stay, with the feeds, until keyway closes them
}

// cut is what a thread sends of its subscribers, in one turn.
type cut struct {
	subscribers []*client
	feeds       []parcel
	sources     []*backend // of feeds
}

// prepare returns what can be sent now. ok is false if it is better to wait: a subscriber is in the
// middle of a command, or a node has not confirmed a subscription. It has waited for that for some time.
func (p *passage) prepare(waited time.Duration) (c cut, ok bool) {
	ready, others, busy := p.subscribers()
	if busy > 0 && waited < subscriberTime {
		return c, false
	}
	feeds, sources, settled, portable := p.feeds()
	if len(ready) == 0 || !portable {
		return c, true
	}
	// They would get no more messages. Their subscriptions end before the feeds go.
	for _, c := range others {
		c.close()
	}
	if len(others) > 0 {
		p.t.srv.log.Warn("closed subscribers that cannot go to the new process", "clients", len(others), "busy", busy)
	}
	return cut{ready, feeds, sources}, settled && len(others) == 0 || waited >= feedTime
}

// passSubscribers sends the subscribers and the feeds, all in one turn.
func (p *passage) passSubscribers(waited time.Duration) (done bool) {
	if p.begun {
		return p.passed
	}
	c, ok := p.prepare(waited)
	if !ok {
		return false
	}
	if p.begun = true; len(c.subscribers) == 0 {
		p.passed, p.isAsIs = true, true
		return true
	}
	p.t.worker.Subscriptions.Lend()
	for _, b := range c.sources {
		b.lend()
	}
	p.lent = c.sources
	parcels := c.feeds
	for _, c := range c.subscribers {
		parcels = append(parcels, p.parcel(c))
	}
	p.t.srv.log.Info("handing subscribers over",
		"thread", p.t.index, "clients", len(c.subscribers), "feeds", len(c.feeds))
	go func() {
		for _, f := range parcels {
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

// subscribers returns the subscribers that are ready, those that are not, and how many of these
// may soon be. It holds back all clients, so that none subscribes.
func (p *passage) subscribers() (ready, others []*client, busy int) {
	p.t.worker.Each(func(s *proxy.Session) {
		if !proxy.Subscribes(s) {
			proxy.PrepareToGo(s)
			return
		}
		c := s.Bind.(*client)
		readiness := proxy.NeverGoes
		if _, plain := descriptorOf(c.sock); plain {
			readiness = proxy.PrepareSubscriberToGo(s)
		}
		if readiness == proxy.ReadyToGo && !c.tryToWrite() {
			return // it has gone
		}
		switch readiness {
		case proxy.ReadyToGo:
			ready = append(ready, c)
		case proxy.GoesSoon:
			busy++
			others = append(others, c)
		default:
			others = append(others, c)
		}
	})
	return ready, others, busy
}

// tryToWrite writes what the client accepts now. It returns false if the client has gone.
func (c *client) tryToWrite() bool {
	for b := c.session.Output(); len(b) > 0; b = c.session.Output() {
		n, err := c.sock.Write(b)
		if n > 0 {
			c.session.Wrote(n)
		}
		switch {
		case err != nil && err != errAgain:
			c.close()
			return false
		case n < len(b):
			return true
		}
	}
	return true
}

// feeds returns the thread's feeds that another process can go on with. settled is false if there
// will soon be others, and portable if none can ever go over.
func (p *passage) feeds() (parcels []parcel, sources []*backend, settled, portable bool) {
	feeds, settled := p.t.worker.Subscriptions.Carried()
	for _, f := range feeds {
		b := f.Bind.(*backend)
		descriptor, plain := descriptorOf(b.sock)
		if !plain {
			return nil, nil, true, false
		}
		sources = append(sources, b)
		parcels = append(parcels, parcel{upgrade.Message{
			Kind: upgrade.Feed, Pool: p.pool, Name: f.Addr, Thread: p.t.index, Primary: f.Primary,
			Part: slices.Clone(f.Part),
		}, descriptor})
	}
	return parcels, sources, settled, true
}

// parcel returns the message by which a client goes over.
func (p *passage) parcel(c *client) parcel {
	descriptor, _ := descriptorOf(c.sock)
	c.isAway = true
	c.sock.Watch(false, false)
	p.sent[c.session.ID()] = c
	form, output := proxy.WriteDown(c.session)
	return parcel{upgrade.Message{
		Kind: upgrade.Client, Pool: p.pool, ID: c.session.ID(), Client: form, Part: output,
	}, descriptor}
}

// giveAway makes the subscribers and the feeds the other process's own. The subscribers' sessions
// stay until the end of the passage, because PUBLISH counts them.
func (p *passage) giveAway() {
	p.serves = true
	p.lent = nil
	if !p.isAsIs {
		p.t.worker.Subscriptions.GiveAway()
	}
	for _, c := range p.taken {
		c.sock.Close()
		c.sock = noSocket{}
	}
	// The others wait for their turn: one that subscribed here would get no messages.
}

const (
	// maxSent is how many clients of a thread may be on their way. The others wait meanwhile.
	maxSent = 128
	// busyTime is how long before the passage a client must have been active to go before idle ones.
	busyTime = int64(time.Second)
)

// passClients sends the clients that are ready, and returns how many may still go over. Those that were
// active lately come first, because they are likely to wait for it.
func (p *passage) passClients() (left int) {
	for _, isBusy := range []bool{true, false} {
		left += p.passSome(isBusy)
	}
	return left
}

// passSome is passClients for the busy clients or the idle ones.
func (p *passage) passSome(isBusy bool) (left int) {
	p.t.worker.Each(func(s *proxy.Session) {
		c := s.Bind.(*client)
		switch {
		case (s.ActiveAt > p.since) != isBusy:
		case c.isAway || c.stays || c.gone:
		case !p.isAsIs && proxy.Subscribes(s):
			s.CloseAfter() // it has subscribed in a transaction, and would get no messages here
		case len(p.sent) >= maxSent:
			left++
		case proxy.PrepareToGo(s) != proxy.NeverGoes:
			left++
			p.next(c)
		}
	})
	return left
}

// next sends a client over if it is ready.
func (p *passage) next(c *client) {
	if !p.serves || len(p.sent) >= maxSent || c.isAway || c.stays || c.gone ||
		proxy.PrepareToGo(c.session) != proxy.ReadyToGo {
		return
	}
	if _, plain := descriptorOf(c.sock); !plain {
		p.keep(c)
		return
	}
	if len(p.of.outbox) < cap(p.of.outbox)/2 { // otherwise later
		p.of.outbox <- p.parcel(c)
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
		if p.keep(c); proxy.Subscribes(c.session) {
			c.close() // it would get no messages here
		}
	}
}

// end ends the passage: the thread goes on with the clients that are still here.
func (p *passage) end() {
	t := p.t
	t.passage = nil
	for _, c := range p.taken {
		if p.serves {
			c.close()
		}
	}
	for _, b := range p.lent {
		b.takeBack()
	}
	if !p.isAsIs {
		t.worker.Subscriptions.TakeBack()
	}
	t.worker.Each(func(s *proxy.Session) {
		c := s.Bind.(*client)
		c.isAway, c.stays = false, false
		proxy.GoOn(s)
	})
}

// noSocket is the socket of a client that another process serves.
type noSocket struct{}

func (noSocket) Read([]byte) (int, error)  { return 0, errAgain }
func (noSocket) Write([]byte) (int, error) { return 0, errAgain }
func (noSocket) Watch(bool, bool)          {}
func (noSocket) Cork()                     {}
func (noSocket) Uncork()                   {}
func (noSocket) CloseWrite()               {}
func (noSocket) Close()                    {}
func (noSocket) Ready(bool, bool)          {}

// lend stops reading and writing a feed, whose socket another process gets.
func (b *backend) lend() {
	b.sock.Watch(false, false)
	b.sock.(movable).Handle(noSocket{})
}

// takeBack goes on after lend.
func (b *backend) takeBack() {
	b.sock.(movable).Handle(b)
	b.sock.Watch(true, false)
}

// ErrHandedOver is the cause of the end of Run's context if another process serves: there is nothing
// to wait for before the remaining clients are closed.
var ErrHandedOver = errors.New("another process serves")
