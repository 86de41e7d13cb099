package test

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// identify makes a value that says which key and client it belongs to and
// where in the client's sequence, so that a reply that is not the right one
// gives itself away: key|client|seq|len|crc32|padding.
func identify(key string, client, seq, size int) string {
	body := fmt.Sprintf("%s|%d|%d|%d", key, client, seq, size)
	return fmt.Sprintf("%s|%08x|%s", body, crc32.ChecksumIEEE([]byte(body)), strings.Repeat("x", size))
}

// identity reads a value that identify made; ok is false for any other.
func identity(v string) (key string, client, seq int, ok bool) {
	f := strings.SplitN(v, "|", 6)
	if len(f) != 6 {
		return "", 0, 0, false
	}
	body := strings.Join(f[:4], "|")
	client, err1 := strconv.Atoi(f[1])
	seq, err2 := strconv.Atoi(f[2])
	size, err3 := strconv.Atoi(f[3])
	ok = err1 == nil && err2 == nil && err3 == nil && fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body))) == f[4] && len(f[5]) == size
	return f[0], client, seq, ok
}

// tally is what a load has seen.
type tally struct {
	replies     atomic.Int64
	notExecuted atomic.Int64
	unknown     atomic.Int64
	otherErrors atomic.Int64
	foreign     atomic.Int64
	late        atomic.Int64 // errors that came later than the bound

	mu    sync.Mutex
	first map[string]string // one example of each kind
}

func (t *tally) example(kind, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first = map[string]string{}
	}
	if t.first[kind] == "" {
		t.first[kind] = text
	}
}

func (t *tally) errors() int64 {
	return t.notExecuted.Load() + t.unknown.Load() + t.otherErrors.Load()
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("%d replies, %d not executed, %d unknown, %d other errors, %d foreign, %d late; examples %q",
		t.replies.Load(), t.notExecuted.Load(), t.unknown.Load(), t.otherErrors.Load(), t.foreign.Load(), t.late.Load(), t.first)
}

// class sorts an error reply by its text, the way a client can.
func (t *tally) class(text string) {
	switch {
	case strings.HasPrefix(text, "CLUSTERDOWN"), strings.HasPrefix(text, "TRYAGAIN"):
		t.notExecuted.Add(1)
		t.example("not executed", text)
	case strings.Contains(text, "may have been executed"):
		t.unknown.Add(1)
		t.example("unknown", text)
	default:
		t.otherErrors.Add(1)
		t.example("other", text)
	}
}

// writer is one client that writes and reads back self-identifying values of
// its own keys, in pipelines of random length, until told to stop.
type writer struct {
	id    int
	addr  string
	keys  int
	depth int           // longest pipeline
	size  int           // largest padding
	slow  time.Duration // a pipeline that takes longer counts as late
	tally *tally

	// acked is the last sequence number of each key that was acknowledged;
	// maybe are the later ones whose outcome is not known.
	acked map[string]int
	maybe map[string]map[int]bool
}

func (w *writer) key(rng *rand.Rand) string { return fmt.Sprintf("w%d:%d", w.id, rng.IntN(w.keys)) }

// run loads until stop is closed. It returns an error only when the connection
// itself fails.
func (w *writer) run(stop <-chan struct{}) error {
	c, err := redistest.TryDial(w.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	w.acked, w.maybe = map[string]int{}, map[string]map[int]bool{}
	rng := rand.New(rand.NewPCG(uint64(w.id), 7))
	type op struct {
		set bool
		key string
		seq int
		min int // a GET must see this write of ours, or a later one
	}
	seq := 0
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		ops := make([]op, 1+rng.IntN(w.depth))
		sent := map[string]int{}
		for i := range ops {
			key := w.key(rng)
			if rng.IntN(2) == 0 {
				seq++
				ops[i] = op{set: true, key: key, seq: seq}
				sent[key] = seq
				c.Send("SET", key, identify(key, w.id, seq, rng.IntN(w.size+1)))
			} else {
				last := w.acked[key]
				ops[i] = op{key: key, min: last}
				c.Send("GET", key)
			}
		}
		began := time.Now()
		if err := c.Flush(); err != nil {
			return err
		}
		for _, o := range ops {
			r, err := c.Receive()
			if err != nil {
				return err
			}
			w.tally.replies.Add(1)
			switch {
			case r.Kind == '-':
				w.tally.class(r.Text)
				if o.set && strings.Contains(r.Text, "may have been executed") {
					if w.maybe[o.key] == nil {
						w.maybe[o.key] = map[int]bool{}
					}
					w.maybe[o.key][o.seq] = true
				}
			case o.set:
				if r.Text != "OK" {
					w.tally.foreign.Add(1)
					w.tally.example("foreign", fmt.Sprintf("SET %s: %.80q", o.key, r.String()))
					continue
				}
				w.acked[o.key] = o.seq
			default:
				w.check(o.key, o.min, r)
			}
		}
		if time.Since(began) > w.slow {
			w.tally.late.Add(1)
			w.tally.example("late", time.Since(began).String())
		}
	}
}

// check judges a GET's reply: it must be a value of this key, of this client,
// no older than what the client knew to be there when it asked.
func (w *writer) check(key string, min int, r redistest.Reply) {
	if r.Null {
		if min > 0 {
			w.tally.foreign.Add(1)
			w.tally.example("foreign", "GET "+key+": nil, though written")
		}
		return
	}
	k, client, seq, ok := identity(r.Text)
	if !ok || k != key || client != w.id || seq < min {
		w.tally.foreign.Add(1)
		w.tally.example("foreign", fmt.Sprintf("GET %s (at least %d): %.80q", key, min, r.Text))
	}
}

// verify reads every key of the writer back: the last acknowledged value, or
// a later one whose outcome was unknown. It returns how many are lost.
func (w *writer) verify(t *testing.T, addr string, judge func(key string) bool) (lost int) {
	t.Helper()
	c := redistest.Dial(t, addr)
	for key, want := range w.acked {
		if judge != nil && !judge(key) {
			continue
		}
		r := c.Do("GET", key)
		k, client, seq, ok := identity(r.Text)
		if !ok || k != key || client != w.id || seq != want && !(seq > want && w.maybe[key][seq]) {
			lost++
			t.Logf("%s: acknowledged %d, found %.60q", key, want, r.String())
		}
	}
	return lost
}

// load runs n writers until stop is closed and returns them.
func load(t *testing.T, n int, addr string, tl *tally, depth int, slow time.Duration, stop <-chan struct{}) (writers []*writer, wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		w := &writer{id: i, addr: addr, keys: 40, depth: depth, size: 200, slow: slow, tally: tl}
		if i%2 == 0 {
			w.depth = 1
		}
		writers = append(writers, w)
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := w.run(stop); err != nil {
				t.Errorf("client %d: %v", w.id, err)
			}
		}()
	}
	return writers, wg.Wait
}
