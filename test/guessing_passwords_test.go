package test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestGuessingPasswords: however many connections an address has, on two threads, only few of its
// guesses are answered in a second. Clients of other addresses, and those that have authenticated,
// notice nothing. The right password works after the delay, over HELLO too.
func TestGuessingPasswords(t *testing.T) {
	t.Parallel()
	d := serveBalancers(t, false, "", "protected_mode: false\nthreads: 2\nclients: {password: right}\n")
	inside := dialFrom(t, "127.0.0.2", d.Addr)
	inside.Expect("OK", "AUTH", "right")
	begin, stop := time.Now(), make(chan struct{})
	answers, wrong, guessing := guess(t, d.balancers, 24, stop)
	redistest.Eventually(t, 30*time.Second, "the guesses are delayed", func() bool { return answers.Load() > 45 })
	// Of another address, while the guesses go on.
	before := delayed(d.Keyway)
	for range 20 {
		c := dialFrom(t, "127.0.0.3", d.Addr)
		c.Expect("OK", "AUTH", "right")
		c.Expect("PONG", "PING")
		inside.Expect("PONG", "PING")
	}
	close(stop)
	guessing.Wait()
	// Each of 24 may be answered at once, before the first failure is known to both threads.
	most := 24 + 10 + 10 + 25*time.Since(begin).Seconds()
	if n := answers.Load(); float64(n) > most || wrong.Load() > 0 {
		t.Errorf("%d guesses were answered in %v, and at most %.0f should be; %d not with an error",
			n, time.Since(begin), most, wrong.Load())
	}
	if before == 0 {
		t.Error("no attempt was delayed")
	}
	// The right password from that address: it waits, and then works.
	before = delayed(d.Keyway)
	dialFrom(t, "127.0.0.2", d.Addr).Expect("OK", "AUTH", "right")
	if got := dialFrom(t, "127.0.0.2", d.Addr).Do("HELLO", "3", "AUTH", "default", "right"); got.Kind != '%' {
		t.Errorf("%v", got)
	}
	if n := delayed(d.Keyway) - before; n != 2 {
		t.Errorf("%d attempts were delayed, not 2", n)
	}
	before = delayed(d.Keyway)
	dialFrom(t, "127.0.0.3", d.Addr).Expect("OK", "AUTH", "right")
	if delayed(d.Keyway) != before {
		t.Error("an attempt of another address was delayed")
	}
}

// guess makes clients of one address guess passwords until stop is closed. It counts the answers,
// and those that are no errors.
func guess(
	t *testing.T, addr string, clients int, stop chan struct{},
) (answers, wrong *atomic.Int64, all *sync.WaitGroup) {
	answers, wrong, all = new(atomic.Int64), new(atomic.Int64), new(sync.WaitGroup)
	for i := range clients {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				c, err := redistest.TryDial(addr)
				if err != nil {
					t.Error(err)
					return
				}
				c.Raw("PROXY TCP4 127.0.0.2 127.0.0.1 1000 2000\r\n")
				if r, err := c.TryDo("AUTH", fmt.Sprintf("guess%d.%d", i, n)); err == nil {
					answers.Add(1)
					if r.Kind != '-' {
						wrong.Add(1)
					}
				}
				c.Close()
			}
		})
	}
	return answers, wrong, all
}

// delayed returns how many attempts to authenticate have waited.
func delayed(k *redistest.Keyway) (n uint64) {
	for _, s := range k.Snapshot() {
		n += s.AuthDelayed
	}
	return n
}

// TestGuessesCountOnAllThreads: wrong passwords over one connection slow down the attempts of that
// address on every thread.
func TestGuessesCountOnAllThreads(t *testing.T) {
	t.Parallel()
	d := serveBalancers(t, false, "", "threads: 2\nclients: {password: right}\n")
	c := dialFrom(t, "127.0.0.4", d.Addr)
	for range 7 { // the seventh waits, and then all threads know of six
		c.Do("AUTH", "wrong")
	}
	before := delayed(d.Keyway)
	var right []*redistest.Client
	for range 16 { // the kernel gives them to both threads
		c := dialFrom(t, "127.0.0.4", d.Addr)
		c.Send("AUTH", "right")
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		right = append(right, c)
	}
	for _, c := range right {
		if got, err := c.Receive(); got.Text != "OK" {
			t.Errorf("%v, %v", got, err)
		}
	}
	if n := delayed(d.Keyway) - before; n != 16 {
		t.Errorf("%d of 16 attempts were delayed", n)
	}
}
