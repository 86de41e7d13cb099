package bench

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// request is what each client sends again and again. Twelve zeros in it are replaced by a random number below
// 10,000. Every reply has the same size.
type request struct {
	frame []byte
	reply int
}

const (
	placeholder = "000000000000"
	keys        = 10_000 // what random numbers are below
)

// placesOf returns where the numbers of frames are.
func placesOf(frames []byte) (places []int) {
	for at := 0; ; {
		i := bytes.Index(frames[at:], []byte(placeholder))
		if i < 0 {
			return places
		}
		places = append(places, at+i)
		at += i + len(placeholder)
	}
}

// fillNumbers writes random numbers at these places, and returns the next state of the generator.
func fillNumbers(frames []byte, places []int, random uint64) uint64 {
	for _, at := range places {
		random = random*6364136223846793005 + 1442695040888963407
		n := random >> 33 % keys
		for i := at + len(placeholder) - 1; i >= at+len(placeholder)-4; i-- {
			frames[i] = byte('0' + n%10)
			n /= 10
		}
	}
	return random
}

// load is clients that are connected. One goroutine serves all of them, as in redis-benchmark, but connecting
// is not measured.
type load struct {
	t       *testing.T
	epoll   int
	clients map[int32]*sender // by descriptor
	depth   int
	request request
	numbers []int // where they are in the frames of one client
	frames  []byte
	random  uint64
	buf     []byte
}

// sender is one client: how many bytes of its replies are missing.
type sender struct{ missing int }

// clientsPerAddress is how many clients get the same source address. A source address has some 28,000 ports.
const clientsPerAddress = 20_000

// connect connects clients that send pipelines of that depth.
func connect(t *testing.T, addr string, clients, depth int, r request) *load {
	t.Helper()
	l := &load{t: t, clients: map[int32]*sender{}, depth: depth, request: r, buf: make([]byte, 1<<20), random: 1}
	l.frames = bytes.Repeat(r.frame, depth)
	l.numbers = placesOf(l.frames)
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort(addr)
	for i := range clients {
		fd, err := dialFrom([4]byte{127, 0, 0, byte(2 + i/clientsPerAddress)}, to)
		if err == nil {
			event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
			err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event)
		}
		if err != nil {
			t.Fatalf("client %d: %v", i+1, err)
		}
		l.clients[int32(fd)] = new(sender)
	}
	return l
}

// dialFrom connects from a source address. The kernel chooses the port when it knows both ends, so that
// addresses of a server can have the same ports.
func dialFrom(source [4]byte, to netip.AddrPort) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, err
	}
	err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: source})
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

func (l *load) close() {
	for fd := range l.clients {
		unix.Close(int(fd))
	}
	unix.Close(l.epoll)
}

// run sends requests for at least this time, and until each client has had a number of replies on average.
// It returns how many were answered, and in what time.
func (l *load) run(least time.Duration, pipelines int) (answered int, took time.Duration) {
	began := time.Now()
	for fd, c := range l.clients {
		l.send(int(fd), c)
	}
	open, wanted := len(l.clients), pipelines*len(l.clients)*l.depth
	events := make([]unix.EpollEvent, 512)
	for open > 0 {
		n, err := unix.EpollWait(l.epoll, events, 30_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			l.t.Fatalf("%d of %d clients have got no reply: %v", open, len(l.clients), err)
		}
		ends := time.Since(began) > least && answered >= wanted
		for _, e := range events[:n] {
			c := l.clients[e.Fd]
			if !l.receive(int(e.Fd), c) {
				continue
			}
			answered += l.depth
			if ends {
				open--
			} else {
				l.send(int(e.Fd), c)
			}
		}
	}
	return answered, time.Since(began)
}

// send waits until the kernel has taken all of it. The proxy reads on meanwhile.
func (l *load) send(fd int, c *sender) {
	l.random = fillNumbers(l.frames, l.numbers, l.random)
	for out := l.frames; len(out) > 0; {
		n, err := unix.Write(fd, out)
		if err != nil && err != unix.EINTR {
			l.t.Fatal(err)
		}
		out = out[max(n, 0):]
	}
	c.missing = l.request.reply * l.depth
}

// receive reports whether all replies of a client have arrived.
func (l *load) receive(fd int, c *sender) bool {
	n, _, err := unix.Recvfrom(fd, l.buf, unix.MSG_DONTWAIT)
	if err == unix.EAGAIN || err == unix.EINTR {
		return false
	}
	if err != nil || n == 0 {
		l.t.Fatalf("a client was closed: %v", err)
	}
	if c.missing == l.request.reply*l.depth && l.buf[0] == '-' || n > c.missing {
		l.t.Fatalf("a client got %.200q", l.buf[:n])
	}
	c.missing -= n
	return c.missing == 0
}
