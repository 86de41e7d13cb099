package bench

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openLoop sends requests when they are due, whether or not earlier ones have been answered. The latency of a
// request counts from the time at which it was due: if a server stops for a while, all requests that were due
// meanwhile have waited. A load that waits for replies would send only one of these, and omit the others.
type openLoop struct {
	t       *testing.T
	epoll   int
	conns   []*openConn
	byFD    map[int32]*openConn
	request request
	numbers []int // where they are in a request
	random  uint64
	buf     []byte

	latency []time.Duration // of the requests of a run, by the time of their replies
	late    []time.Duration // how long after it was due each request was sent
}

// openConn is one connection: what it has yet to send, and when the requests were due that are not answered yet.
type openConn struct {
	fd      int
	out     []byte
	unsent  []time.Duration
	waiting []time.Duration
	partial int // bytes of an incomplete reply
}

// connectOpen connects clients, an equal number to each address.
func connectOpen(t *testing.T, addrs []string, clients int, r request) *openLoop {
	t.Helper()
	o := &openLoop{t: t, byFD: map[int32]*openConn{}, request: r, numbers: placesOf(r.frame),
		buf: make([]byte, 1<<20), random: 1}
	var err error
	if o.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	for i := range clients {
		fd, err := dialFrom([4]byte{127, 0, 0, 1}, netip.MustParseAddrPort(addrs[i%len(addrs)]))
		if err == nil {
			event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
			err = unix.EpollCtl(o.epoll, unix.EPOLL_CTL_ADD, fd, &event)
		}
		if err != nil {
			t.Fatalf("client %d: %v", i+1, err)
		}
		c := &openConn{fd: fd}
		o.conns, o.byFD[int32(fd)] = append(o.conns, c), c
	}
	return o
}

func (o *openLoop) close() {
	for _, c := range o.conns {
		unix.Close(c.fd)
	}
	unix.Close(o.epoll)
}

// scheduleOf returns when requests are due: at random times, as many independent clients send them.
func scheduleOf(rate float64, window time.Duration, seed uint64) (due []time.Duration) {
	random := rand.New(rand.NewPCG(seed, seed))
	for at := 0.0; ; {
		at += random.ExpFloat64() / rate
		if at >= window.Seconds() {
			return due
		}
		due = append(due, time.Duration(at*1e9))
	}
}

// run sends a request at each of these times, and waits for all replies.
func (o *openLoop) run(due []time.Duration) {
	o.latency = slices.Grow(o.latency[:0], len(due))
	o.late = slices.Grow(o.late[:0], len(due))
	events := make([]unix.EpollEvent, 512)
	began, next, wait := time.Now(), 0, time.Duration(0)
	for len(o.latency) < len(due) {
		now := time.Since(began)
		for ; next < len(due) && due[next] <= now; next++ {
			o.enqueue(o.conns[next%len(o.conns)], due[next])
		}
		unsent := false
		for _, c := range o.conns {
			if len(c.out) > 0 {
				o.send(c, began)
				unsent = unsent || len(c.out) > 0
			}
		}
		n, err := unix.EpollWait(o.epoll, events, 0)
		if err != nil && err != unix.EINTR {
			o.t.Fatal(err)
		}
		for _, e := range events[:max(n, 0)] {
			o.receive(o.byFD[e.Fd], began)
		}
		if n > 0 {
			continue
		}
		wait = 30 * time.Second
		if next < len(due) {
			wait = due[next] - time.Since(began)
		}
		if unsent {
			wait = min(wait, time.Millisecond)
		}
		o.sleep(wait, len(due))
	}
}

// sleep waits for a reply, at most so long.
func (o *openLoop) sleep(wait time.Duration, all int) {
	if wait <= 0 {
		return
	}
	timeout := unix.NsecToTimespec(wait.Nanoseconds())
	n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(o.epoll), Events: unix.POLLIN}}, &timeout, nil)
	if err != nil && err != unix.EINTR {
		o.t.Fatal(err)
	}
	if n == 0 && wait >= 30*time.Second {
		o.t.Fatalf("%d of %d requests were answered", len(o.latency), all)
	}
}

func (o *openLoop) enqueue(c *openConn, due time.Duration) {
	from := len(c.out)
	c.out = append(c.out, o.request.frame...)
	o.random = fillNumbers(c.out[from:], o.numbers, o.random)
	c.unsent = append(c.unsent, due)
}

// send writes as much as the kernel takes.
func (o *openLoop) send(c *openConn, began time.Time) {
	n, err := unix.Write(c.fd, c.out)
	if err != nil && err != unix.EINTR && err != unix.EAGAIN {
		o.t.Fatal(err)
	}
	now := time.Since(began)
	c.out = append(c.out[:0], c.out[max(n, 0):]...)
	sent := len(c.unsent) - (len(c.out)+len(o.request.frame)-1)/len(o.request.frame)
	for _, due := range c.unsent[:sent] {
		o.late = append(o.late, now-due)
	}
	c.waiting = append(c.waiting, c.unsent[:sent]...)
	c.unsent = append(c.unsent[:0], c.unsent[sent:]...)
}

// receive counts the complete replies of a client.
func (o *openLoop) receive(c *openConn, began time.Time) {
	n, _, err := unix.Recvfrom(c.fd, o.buf, unix.MSG_DONTWAIT)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	now := time.Since(began)
	if err != nil || n == 0 {
		o.t.Fatalf("a client was closed: %v", err)
	}
	if c.partial == 0 && o.buf[0] == '-' {
		o.t.Fatalf("a client got %.200q", o.buf[:n])
	}
	c.partial += n
	answered := c.partial / o.request.reply
	c.partial %= o.request.reply
	if answered > len(c.waiting) {
		o.t.Fatalf("a client got %d replies to %d requests: %.200q", answered, len(c.waiting), o.buf[:n])
	}
	for _, due := range c.waiting[:answered] {
		o.latency = append(o.latency, now-due)
	}
	c.waiting = append(c.waiting[:0], c.waiting[answered:]...)
}

// percentile returns the duration that this share of all does not exceed, in microseconds.
func percentile(of []time.Duration, share float64) float64 {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	at := min(int(share*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[at].Nanoseconds()) / 1e3
}
