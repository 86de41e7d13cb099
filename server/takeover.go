package server

import (
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/upgrade"
)

// TakeOver serves the clients of the process that this one replaces, until none follows, or that
// process has ended. A message of it makes this process accept clients; then TakeOver calls serves.
func TakeOver(pools Pools, from *upgrade.Conn, serves func()) error {
	begun := map[*Server]bool{}
	serve := func(s *Server, above uint64) {
		if begun[s] {
			return
		}
		begin(s, above)
		if begun[s] = true; len(begun) == 1 {
			serves()
		}
	}
	for {
		m, descriptors, err := from.Receive()
		if err != nil || m.Kind == upgrade.End {
			for _, s := range pools { // it has not let them serve, and never will
				serve(s, 0)
			}
			return err
		}
		s := pools[m.Pool]
		switch {
		case s == nil: // the configuration has no such pool any more
			upgrade.CloseAll(descriptors)
			if m.Kind == upgrade.Client {
				refuse(from, m, "there is no such pool")
			}
		case m.Kind == upgrade.Serve:
			serve(s, m.ID)
			for _, s := range pools {
				if s.isNew {
					serve(s, 0)
				}
			}
		case !take(s, from, m, descriptors):
			upgrade.CloseAll(descriptors)
			from.Close() // so that the next message is the last one
		}
	}
}

// take takes a feed or a client over. It returns false if the message is neither.
func take(s *Server, from *upgrade.Conn, m upgrade.Message, descriptors []int) bool {
	switch {
	case len(descriptors) != 1:
		return false
	case m.Kind == upgrade.Feed && m.Thread >= 0 && m.Thread < len(s.threads):
		t := s.threads[m.Thread]
		t.loop.Post(func() { inherit(t, m, descriptors[0]) })
		return true
	case m.Kind != upgrade.Client:
		return false
	}
	written, err := proxy.ReadClient(m.Client)
	if err != nil {
		upgrade.CloseAll(descriptors)
		refuse(from, m, err.Error())
		return true
	}
	t := threadOf(s, written.ID())
	t.loop.Post(func() {
		if err := open(t, from, m, &written, descriptors[0]); err != nil {
			go refuse(from, m, err.Error())
		}
	})
	return true
}

// refuse answers that this process does not take a client. If that fails, so does Receive.
func refuse(from *upgrade.Conn, m upgrade.Message, reason string) {
	_ = from.Send(upgrade.Message{Kind: upgrade.Refused, Pool: m.Pool, ID: m.ID, Reason: reason})
}

// open makes a client of another process one of the thread, and answers that once all threads know
// of its subscriptions.
func open(t *thread, from *upgrade.Conn, m upgrade.Message, written *proxy.Written, descriptor int) error {
	c := &client{t: t}
	sock, err := adopt(t.loop, descriptor, c)
	if err != nil {
		return err
	}
	c.sock, c.isAway = sock, true
	c.session, err = written.Open(t.worker, c, m.Part, func() {
		// The client is served only after the answer. So if this process fails before it, it has done
		// nothing that the other one would do again. If the answer cannot be sent, the other one has ended.
		go func() {
			_ = from.Send(upgrade.Message{Kind: upgrade.Taken, Pool: m.Pool, ID: m.ID})
			t.loop.Post(func() { t.inherited.arrive(arrival{c, written.Input()}) })
		}()
	})
	if err != nil {
		sock.Close()
		return err
	}
	count(t, 1)
	t.srv.reports.client("client taken over", c)
	return nil
}

// inheritance is what a thread gets of the process that this one replaces.
type inheritance struct {
	waits   bool                      // that process still serves
	feeds   map[string]*inheritedFeed // by the addresses of their nodes
	clients []arrival                 // they are served when waits ends
}

// inheritedFeed is a connection on which a node publishes.
type inheritedFeed struct {
	descriptor int
	part       []byte   // the beginning of a message
	by         *backend // that goes on with it; nil: none yet
}

// arrival is a client, and what it has sent of its next commands.
type arrival struct {
	*client
	input []byte
}

// inherit keeps a feed for the next attempt to connect to its node.
func inherit(t *thread, m upgrade.Message, descriptor int) {
	of := &t.inherited
	if of.feeds == nil {
		of.feeds = map[string]*inheritedFeed{}
	}
	if before := of.feeds[m.Name]; before != nil {
		upgrade.CloseAll([]int{before.descriptor})
	}
	of.feeds[m.Name] = &inheritedFeed{descriptor: descriptor, part: m.Part}
	t.worker.Subscriptions.Inherit(m.Name, m.Primary)
}

// serve makes a feed go on with an inherited connection, which is read when all subscribers are here.
// It returns false if there is none.
func (of *inheritance) serve(b *backend) bool {
	f := of.feeds[b.link.Addr]
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
	pool.Adopt(b.link, f.part, b.t.now)
	return true
}

// arrive serves a client, or keeps it until this process serves.
func (of *inheritance) arrive(a arrival) {
	if of.waits {
		of.clients = append(of.clients, a)
		return
	}
	a.isAway = false
	if a.gone {
		return
	}
	if len(a.input) > 0 {
		a.t.worker.Received(a.session, a.input)
	}
	a.flush()
}

// begin ends the wait: the inherited feeds are read, and those that nobody needs are closed.
func (of *inheritance) begin(now int64) {
	feeds, clients := of.feeds, of.clients
	*of = inheritance{}
	for _, f := range feeds {
		if f.by != nil {
			pool.GoOn(f.by.link, now)
		} else {
			upgrade.CloseAll([]int{f.descriptor})
		}
	}
	for _, a := range clients {
		of.arrive(a)
	}
}

// begin makes a server serve that has waited for the process that it replaces. No client of that
// process has an id above this one.
func begin(s *Server, above uint64) {
	s.listening.Lock()
	for _, l := range s.listeners {
		l.ownFile()
	}
	s.listening.Unlock()
	s.onThreads(func(t *thread) {
		proxy.LaterIDs(t.worker, above)
		t.inherited.begin(t.now)
		rest(t, false)
	})
}
