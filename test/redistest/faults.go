package redistest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// Faults is a proxy that injects faults, between keyway and a node or between a client and
// keyway. Each connection has a Plan.
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
	ended chan struct{} // closed by Close
}

// Plan says which faults one connection has. The zero Plan passes all bytes on.
type Plan struct {
	// CutRequest and CutReply close the connection after that many bytes to the node, or
	// from it. 0: never; -1: at once.
	CutRequest, CutReply int
	// CutBefore closes the connection instead of passing on the reply with that number,
	// counted from 1. The node has executed the request. 0: never.
	CutBefore int
	// Reset closes the connection with RST instead of FIN.
	Reset bool
	// HalfClose closes only the direction of the cut. The other direction stays open.
	HalfClose bool
	// OneByOne writes every byte by itself.
	OneByOne bool
	// Piece returns the size of the next piece in which bytes of the node are passed on; nil: as they come.
	Piece func() int
	// DeafRequest and DeafReply stop reading after that many bytes to the node, or from
	// it, so that the sender's window closes. 0: never.
	DeafRequest, DeafReply int
	// Rate is the number of bytes a second in each direction; 0: unlimited.
	Rate int
	// Greeting is sent to the client first.
	Greeting string
	// Reply is called with each whole reply and its number, counted from 0. It returns the
	// bytes to pass on instead, and the delay before them.
	Reply func(n int, reply []byte) ([]byte, time.Duration)
}

// NewFaults starts a proxy to target. plan returns the Plan of each connection; conn counts
// them from 0.
func NewFaults(t testing.TB, target string, plan func(conn int) Plan) *Faults {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &Faults{
		t: t, Addr: ln.Addr().String(), target: target, plan: plan,
		conns: map[net.Conn]bool{}, ln: ln, ended: make(chan struct{}),
	}
	f.wg.Add(1)
	go f.accept()
	t.Cleanup(f.Close)
	return f
}

// Close stops the proxy and closes every connection through it.
func (f *Faults) Close() {
	f.ln.Close()
	f.end.Do(func() { close(f.ended) })
	f.CutAll()
	f.wg.Wait()
}

// CutAll closes every open connection.
func (f *Faults) CutAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.Close()
	}
}

// Connections returns the number of connections accepted so far.
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
		forget := f.track(c) // before plan is called, so that CutAll closes every connection with an old plan
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			defer forget()
			f.serve(c, f.plan(n))
		}()
	}
}

// track adds a connection to those that CutAll closes. The returned function removes it.
func (f *Faults) track(c net.Conn) (forget func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = true
	select {
	case <-f.ended:
		c.Close() // Close has already called CutAll
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
			<-f.ended // the other direction stays open until it ends both
		case p.HalfClose:
			dst.(*net.TCPConn).CloseWrite()
			return
		}
		end()
	}
	go way(far, near, p.CutRequest, p.DeafRequest, func(dst io.Writer, src io.Reader) { io.Copy(dst, src) })
	go way(near, far, p.CutReply, p.DeafReply, func(dst io.Writer, src io.Reader) {
		if p.Piece != nil {
			dst = pieces{dst, p.Piece}
		}
		if p.Reply == nil && p.CutBefore == 0 {
			io.Copy(dst, src)
			return
		}
		passReplies(dst, src, p)
	})
	both.Wait()
}

// paced is a reader of at most rate bytes a second.
type paced struct {
	r     io.Reader
	rate  int
	began time.Time
	read  time.Duration // the time that the bytes read so far take at this rate
}

func (p *paced) Read(b []byte) (int, error) {
	if idle := time.Since(p.began) - p.read; idle > 0 {
		p.began = p.began.Add(idle) // idle time does not allow a burst later
	} else {
		time.Sleep(-idle)
	}
	n, err := p.r.Read(b[:min(len(b), 64<<10)])
	p.read += time.Duration(n) * time.Second / time.Duration(p.rate)
	return n, err
}

// oneByOne is a writer that writes every byte by itself.
type oneByOne struct{ w io.Writer }

func (o oneByOne) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := o.w.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// pieces is a writer that writes pieces.
type pieces struct {
	w    io.Writer
	size func() int
}

func (p pieces) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var wrote int
		wrote, err = p.w.Write(b[n:min(len(b), n+p.size())])
		n += wrote
	}
	return n, err
}

// passReplies copies replies from src to dst, with the faults of the plan.
func passReplies(dst io.Writer, src io.Reader, p Plan) {
	var scan resp.Scanner
	var reply []byte
	buf := make([]byte, 64<<10)
	for n := 0; ; {
		k, err := src.Read(buf)
		for b := buf[:k]; len(b) > 0; {
			size, done, bad := scan.Scan(b)
			if bad != nil {
				return
			}
			reply = append(reply, b[:size]...)
			b = b[size:]
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
