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

// Carry returns what another process must know to go on with the connection: the beginning of a
// message whose rest has not come. ok is false while that process could not: the feed is not
// connected, or has not written what it was given.
func (f *Feed) Carry() (part []byte, ok bool) {
	return f.input.part, f.state == Ready && len(f.queue.next()) == 0
}

// Tick does what is due at the time now: it fails attempts to connect that take too long,
// and dials after a back-off.
func (f *Feed) Tick(now int64) { f.tick(now) }

// IsFeed reports whether the link belongs to a Feed.
func IsFeed(l *Link) bool {
	_, is := l.traffic.(*Feed)
	return is
}

// Adopt makes a feed's link that is Dialing go on with the connection of another process, whose
// Carry has returned part. The node does not notice. Nothing is written before GoOn.
func Adopt(l *Link, part []byte, now int64) {
	l.PauseReading()
	l.enter(Ready, now)
	l.dialing.refused, l.reason = false, ""
	l.Epoch = l.set.Epoch // the other process serves by the node's register, too
	l.Received(part, now)
}

// GoOn makes the caller read the link, which calls Listener.Up.
func GoOn(l *Link, now int64) {
	if l.state == Ready {
		l.ResumeReading()
		l.traffic.up(now)
	}
}

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

func (f *Feed) wrote(int64) {}

func (f *Feed) worksWhileBusy() bool { return false }

func (f *Feed) answerAll([]byte) {}
