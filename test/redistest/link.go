package redistest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Link is a network path to a node. It has a latency, and it can be cut: then the two ends
// hear nothing of each other, and what they send arrives once the link is whole again.
type Link struct {
	Addr    string
	target  string
	latency time.Duration

	mu    sync.Mutex
	whole chan struct{} // closed while the link is whole
	conns map[net.Conn]bool
	ln    net.Listener
	wg    sync.WaitGroup
	ended chan struct{}
}

// NewLink makes a link to target. Each byte takes the time latency in each direction.
func NewLink(t testing.TB, target string, latency time.Duration) *Link {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{
		Addr: ln.Addr().String(), target: target, latency: latency,
		whole: make(chan struct{}), conns: map[net.Conn]bool{}, ln: ln, ended: make(chan struct{}),
	}
	close(l.whole)
	l.wg.Go(l.accept)
	t.Cleanup(l.close)
	return l
}

// Cut stops all bytes until Heal.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.whole = make(chan struct{})
}

// Heal makes a cut link whole again.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.whole)
}

func (l *Link) close() {
	close(l.ended)
	l.ln.Close()
	l.mu.Lock()
	for c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	l.wg.Wait()
}

func (l *Link) accept() {
	for {
		near, err := l.ln.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.serve(near) })
	}
}

func (l *Link) serve(near net.Conn) {
	defer l.track(near)()
	if !l.passes(time.Now()) {
		return
	}
	far, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer l.track(far)()
	var both sync.WaitGroup
	both.Go(func() { l.carry(far, near) })
	both.Go(func() { l.carry(near, far) })
	both.Wait()
}

// track adds a connection to those that end with the link. The returned function closes it.
func (l *Link) track(c net.Conn) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = true
	select {
	case <-l.ended:
		c.Close()
	default:
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, c)
		c.Close()
	}
}

// chunk is bytes on their way.
type chunk struct {
	bytes  []byte
	arrive time.Time
}

// carry passes bytes on in one direction, and then its end.
func (l *Link) carry(dst, src net.Conn) {
	way := make(chan chunk, 1024)
	var sender sync.WaitGroup
	sender.Go(func() {
		for c := range way {
			if l.passes(c.arrive) {
				dst.Write(c.bytes)
			}
		}
		dst.Close()
	})
	for {
		b := make([]byte, 16<<10)
		n, err := src.Read(b)
		if n > 0 {
			way <- chunk{b[:n], time.Now().Add(l.latency)}
		}
		if err != nil {
			break
		}
	}
	close(way)
	sender.Wait()
}

// passes waits until the time has come and the link is whole. It returns false if the link
// has ended.
func (l *Link) passes(at time.Time) bool {
	time.Sleep(time.Until(at))
	l.mu.Lock()
	whole := l.whole
	l.mu.Unlock()
	select {
	case <-whole:
		return true
	case <-l.ended:
		return false
	}
}
