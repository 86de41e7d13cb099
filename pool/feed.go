package pool

// Feed is a connection for the messages that a node publishes. Commands on it subscribe
// and unsubscribe; the node's answers are messages too, so a Feed has no FIFO.
type Feed struct {
	Link
	Listener Listener
}

// Listener receives the messages of a Feed. Its methods are called from within Received,
// Fail and Tick.
type Listener interface {
	// Up reports that the feed is ready. It has no subscriptions yet.
	Up(f *Feed)
	// Message delivers one whole message, which is valid until Message returns.
	Message(f *Feed, message []byte)
	// Down reports that the feed has ended.
	Down(f *Feed)
}

// Feed returns a new feed from addr. It does not dial yet.
func (s *Set) Feed(addr string, owner any, to Listener) *Feed {
	f := &Feed{Link: Link{Addr: addr, Owner: owner, set: s}, Listener: to}
	f.queue.set, f.traffic = s, f
	return f
}

// SendCommand queues a frame on a feed that is Ready. The node's answer arrives as a
// message.
func (f *Feed) SendCommand(frame []byte) {
	f.queue.append(frame)
	f.mark()
}

// Tick does what is due at the time now: it fails attempts to connect that take too long,
// and dials after a back-off.
func (f *Feed) Tick(now int64) { f.tick(now) }

// received implements traffic.
func (f *Feed) received(b []byte, now int64) {
	for len(b) > 0 && f.state == Ready {
		n, done, err := f.input.scan.Scan(b)
		if err != nil {
			f.violate(now, err.Error())
			return
		}
		if f.input.scan.Kind() == '>' {
			f.violate(now, f.push(nil, false))
			return
		}
		whole, ok := f.input.message(b[:n], done)
		if !ok {
			f.violate(now, "a message is too long")
			return
		}
		if done {
			f.Listener.Message(f, whole)
			f.input.clear()
		}
		b = b[n:]
	}
}

// push implements traffic.
func (f *Feed) push(piece []byte, done bool) (wrong string) { return f.unexpectedPush(piece, done) }

func (f *Feed) up(int64) { f.Listener.Up(f) }

func (f *Feed) drop(string) {
	for _, ch := range f.reset() {
		f.set.release(ch)
	}
}

// ended implements traffic. No feed waits for another attempt, so any failure counts as a
// refusal.
func (f *Feed) ended(State) {
	if f.state == Down {
		f.dialing.refused = true
	}
	f.Listener.Down(f)
}

func (f *Feed) busy() bool { return false }

func (f *Feed) worksWhileBusy() bool { return false }
