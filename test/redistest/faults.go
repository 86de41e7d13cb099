package redistest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// Faults is a proxy between keyway and a node, or a client and keyway, that
// knows where requests and replies end and does to them what its plans say.
type Faults struct {
	t      testing.TB
	Addr   string
	target string
	plan   func(conn int) Plan

	mu    sync.Mutex
	conns map[net.Conn]bool
	count int
	wg    sync.WaitGroup
	ln    net.Listener
	end   sync.Once
	ended chan struct{} // closed with the proxy
}

// Plan is what happens to one connection. The zero Plan passes everything.
type Plan struct {
	// CutRequest and CutReply end the connection after so many bytes towards
	// the node, or from it; 0 for never, -1 for at once.
	CutRequest, CutReply int
	// CutBefore ends it in the place of the reply of that number, counted from
	// 1: the node has carried the request out. 0 for never.
	CutBefore int
	// Reset ends it with RST instead of FIN.
	Reset bool
	// HalfClose ends only the direction that a cut is in; the other goes on.
	HalfClose bool
	// OneByOne passes every byte in a segment of its own.
	OneByOne bool
	// DeafRequest and DeafReply stop reading after so many bytes towards the
	// node, or from it: the sender's window closes. 0 for never.
	DeafRequest, DeafReply int
	// Rate is how many bytes a second pass in each direction; 0 for all.
	Rate int
	// Greeting is said to whoever connects before anything else.
	Greeting string
	// Reply is told each whole reply and its number, from 0; it returns what
	// is passed on in its place, and how long that is held back.
	Reply func(n int, reply []byte) ([]byte, time.Duration)
}

// NewFaults starts a proxy to target. plan says what happens to each
// connection, counted from 0.
func NewFaults(t testing.TB, target string, plan func(conn int) Plan) *Faults {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &Faults{t: t, Addr: ln.Addr().String(), target: target, plan: plan, conns: map[net.Conn]bool{}, ln: ln, ended: make(chan struct{})}
	f.wg.Add(1)
	go f.accept()
	t.Cleanup(f.Close)
	return f
}

// Close ends the proxy and every connection through it.
func (f *Faults) Close() {
	f.ln.Close()
	f.end.Do(func() { close(f.ended) })
	f.CutAll()
	f.wg.Wait()
}

// CutAll ends every connection that is open.
func (f *Faults) CutAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.Close()
	}
}

// Connections is how many have been made so far.
func (f *Faults) Connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

func (f *Faults) accept() {
	defer f.wg.Done()
	for {
		c, err := f.ln.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		n := f.count
		f.count++
		f.mu.Unlock()
		forget := f.track(c) // before it has a plan: CutAll ends all that have an old one
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			defer forget()
			f.serve(c, f.plan(n))
		}()
	}
}

// track has CutAll know of a connection until the returned function is called.
func (f *Faults) track(c net.Conn) (forget func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = true
	select {
	case <-f.ended:
		c.Close() // CutAll has been
	default:
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.conns, c)
	}
}

func (f *Faults) serve(near net.Conn, p Plan) {
	far, err := net.Dial("tcp", f.target)
	if err != nil {
		near.Close()
		return
	}
	defer f.track(far)()
	end := func() {
		if p.Reset {
			near.(*net.TCPConn).SetLinger(0)
			far.(*net.TCPConn).SetLinger(0)
		}
		near.Close()
		far.Close()
	}
	defer end()
	if p.Greeting != "" {
		io.WriteString(near, p.Greeting)
	}
	if p.CutRequest < 0 || p.CutReply < 0 {
		return
	}
	var both sync.WaitGroup
	both.Add(2)
	way := func(dst, src net.Conn, cut, deaf int, pass func(io.Writer, io.Reader)) {
		defer both.Done()
		from := io.Reader(src)
		if limit := max(cut, deaf); limit > 0 {
			from = io.LimitReader(src, int64(limit))
		}
		if p.Rate > 0 {
			from = &paced{r: from, rate: p.Rate, began: time.Now()}
		}
		to := io.Writer(dst)
		if p.OneByOne {
			to = oneByOne{dst}
		}
		pass(to, from)
		switch {
		case deaf > 0:
			<-f.ended // the other way goes on, and ends both
		case p.HalfClose:
			dst.(*net.TCPConn).CloseWrite()
			return
		}
		end()
	}
	go way(far, near, p.CutRequest, p.DeafRequest, func(dst io.Writer, src io.Reader) { io.Copy(dst, src) })
	go way(near, far, p.CutReply, p.DeafReply, func(dst io.Writer, src io.Reader) {
		if p.Reply == nil && p.CutBefore == 0 {
			io.Copy(dst, src)
			return
		}
		passReplies(dst, src, p)
	})
	both.Wait()
}

// paced reads no more than rate bytes a second.
type paced struct {
	r     io.Reader
	rate  int
	began time.Time
	read  time.Duration // how long what was read takes to pass
}

func (p *paced) Read(b []byte) (int, error) {
	if idle := time.Since(p.began) - p.read; idle > 0 {
		p.began = p.began.Add(idle) // what was not used is lost
	} else {
		time.Sleep(-idle)
	}
	n, err := p.r.Read(b[:min(len(b), 64<<10)])
	p.read += time.Duration(n) * time.Second / time.Duration(p.rate)
	return n, err
}

// oneByOne writes every byte by itself.
type oneByOne struct{ w io.Writer }

func (o oneByOne) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := o.w.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// passReplies does with each whole reply what the plan says.
func passReplies(dst io.Writer, src io.Reader, p Plan) {
	var scan resp.Scanner
	var reply []byte
	buf := make([]byte, 64<<10)
	for n := 0; ; {
		k, err := src.Read(buf)
		for b := buf[:k]; len(b) > 0; {
			took, done, bad := scan.Scan(b)
			if bad != nil {
				return
			}
			reply = append(reply, b[:took]...)
			b = b[took:]
			if !done {
				continue
			}
			out, wait := reply, time.Duration(0)
			if p.Reply != nil {
				out, wait = p.Reply(n, reply)
			}
			if n++; n == p.CutBefore {
				return
			}
			time.Sleep(wait)
			if _, err := dst.Write(out); err != nil {
				return
			}
			reply = reply[:0]
		}
		if err != nil {
			return
		}
	}
}
