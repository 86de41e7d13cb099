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
}

// Plan is what happens to one connection. The zero Plan passes everything.
type Plan struct {
	// CutRequest and CutReply end the connection after so many bytes towards
	// the node, or from it; 0 for never, -1 for at once.
	CutRequest, CutReply int
	// Reset ends it with RST instead of FIN.
	Reset bool
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
	f := &Faults{t: t, Addr: ln.Addr().String(), target: target, plan: plan, conns: map[net.Conn]bool{}, ln: ln}
	f.wg.Add(1)
	go f.accept()
	t.Cleanup(f.Close)
	return f
}

// Close ends the proxy and every connection through it.
func (f *Faults) Close() {
	f.ln.Close()
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
		f.conns[c] = true
		f.mu.Unlock()
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			f.serve(c, f.plan(n))
			f.mu.Lock()
			delete(f.conns, c)
			f.mu.Unlock()
		}()
	}
}

func (f *Faults) serve(near net.Conn, p Plan) {
	far, err := net.Dial("tcp", f.target)
	if err != nil {
		near.Close()
		return
	}
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
	go func() {
		defer both.Done()
		passBytes(far, near, p.CutRequest)
		end()
	}()
	go func() {
		defer both.Done()
		if p.Reply != nil {
			passReplies(near, far, p.Reply)
		} else {
			passBytes(near, far, p.CutReply)
		}
		end()
	}()
	both.Wait()
}

// passBytes copies until the end, or until limit bytes have passed.
func passBytes(dst io.Writer, src io.Reader, limit int) {
	if limit > 0 {
		io.CopyN(dst, src, int64(limit))
		return
	}
	io.Copy(dst, src)
}

// passReplies lets change have its way with each whole reply.
func passReplies(dst io.Writer, src io.Reader, change func(int, []byte) ([]byte, time.Duration)) {
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
			out, wait := change(n, reply)
			n++
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
