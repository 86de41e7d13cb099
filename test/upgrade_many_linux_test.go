package test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// crowd connects many clients.
func (u *upgraded) crowd(n int) (all []net.Conn) {
	u.t.Helper()
	for range n {
		c, err := net.Dial("tcp", u.Addr)
		if err != nil {
			u.t.Fatal(err)
		}
		u.t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
		all = append(all, c)
	}
	return all
}

// tell makes each client of a crowd send a command and get its reply.
func (u *upgraded) tell(crowd []net.Conn, command, want string) {
	u.t.Helper()
	for _, c := range crowd {
		if _, err := c.Write([]byte(command)); err != nil {
			u.t.Fatal(err)
		}
	}
	u.hear(crowd, want)
}

// hear checks the next thing that each client of a crowd gets.
func (u *upgraded) hear(crowd []net.Conn, want string) {
	u.t.Helper()
	for i, c := range crowd {
		b := make([]byte, len(want))
		for n := 0; n < len(b); {
			k, err := c.Read(b[n:])
			if n += k; err != nil {
				u.t.Fatalf("client %d of %d gets %q, %v instead of %q", i, len(crowd), b[:n], err, want)
			}
		}
		if string(b) != want {
			u.t.Fatalf("client %d of %d gets %q instead of %q", i, len(crowd), b, want)
		}
	}
}

// TestUpgradeWhileClientsSubscribe: clients that subscribe when the subscribers have gone over, and they
// themselves have not, get every message.
func TestUpgradeWhileClientsSubscribe(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	u := newUpgraded(t, redistest.Layouts(redistest.Three(t))["ring"]+"threads: 1\n")
	first, publisher := redistest.Dial(t, u.Addr), redistest.Dial(t, u.Addr)
	first.MustDo("SUBSCRIBE", "first") // subscribers go over with it, and without it none could
	crowd := u.crowd(1000)
	u.tell(crowd, "PING\r\n", "+PONG\r\n")
	frozen := false // while clients were in the old process
	for n := 1; n <= 10 && !frozen; n++ {
		over := make(chan error, 1)
		go func() {
			printed, err := u.Upgrade()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, printed)
			}
			over <- err
		}()
		pid := u.awaitSuccessor(n)
		redistest.Eventually(t, 20*time.Second, "clients go over", func() bool {
			return strings.Count(u.Log(), "handing the clients over") == n
		})
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		frozen = len(files) < len(crowd)-200 // those that are on their way may be there soon
		for _, c := range crowd {
			_, err = c.Write([]byte("SUBSCRIBE news\r\n"))
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond) // for the old process, which must not serve them
		_ = syscall.Kill(pid, syscall.SIGCONT)
		if err := <-over; err != nil {
			t.Fatal(err)
		}
		u.hear(crowd, "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n")
		publisher.Expect(fmt.Sprint(len(crowd)), "PUBLISH", "news", "x")
		u.hear(crowd, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n")
		u.tell(crowd, "UNSUBSCRIBE news\r\n", "*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n")
	}
	if !frozen {
		t.Error("no new process was stopped before all clients had gone over")
	}
}

// busy makes each client of a crowd send one command after another. The function that it returns ends
// that, and returns the longest time that each has waited for a reply, in order.
func (u *upgraded) busy(crowd []net.Conn) (end func() (waits []time.Duration)) {
	waits := make([]time.Duration, len(crowd))
	for i, c := range crowd {
		u.wg.Go(func() {
			for r := bufio.NewReader(c); !u.stop.Load(); {
				sent := time.Now()
				_, err := c.Write([]byte("GET k\r\n"))
				if err == nil {
					_, err = r.ReadSlice('\n')
				}
				if err != nil {
					u.t.Error(err)
					return
				}
				waits[i] = max(waits[i], time.Since(sent))
			}
		})
	}
	return func() []time.Duration {
		u.stop.Store(true)
		u.wg.Wait()
		slices.Sort(waits)
		return waits
	}
}

// logged returns when a text was logged.
func (u *upgraded) logged(text string) time.Time {
	u.t.Helper()
	for line := range strings.Lines(u.Log()) {
		if strings.Contains(line, text) {
			stamp, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
			at, err := time.Parse(time.RFC3339, stamp)
			if err != nil {
				u.t.Fatal(err)
			}
			return at
		}
	}
	u.t.Fatalf("%q is not logged", text)
	return time.Time{}
}

// TestUpgradePause: in an upgrade with many idle clients, those that are busy wait for a short part of it,
// and none is lost. With KEYWAY_IDLE=10000 it logs the figures of decision 10.
func TestUpgradePause(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	idle := 3000
	if n, err := strconv.Atoi(os.Getenv("KEYWAY_IDLE")); err == nil {
		idle = n
	}
	u := newUpgraded(t, redistest.Layouts(redistest.Three(t))["ring"]+"threads: 2\nclients: {max: 20000}\n")
	busy := u.crowd(50) // before the others, who would go over first if the order were that of connecting
	crowd := u.crowd(idle)
	u.tell(crowd, "PING\r\n", "+PONG\r\n")
	time.Sleep(1100 * time.Millisecond) // now they are idle
	end := u.busy(busy)
	if printed, err := u.Upgrade(); err != nil {
		t.Errorf("%v: %s", err, printed)
	}
	waits := end()
	u.tell(crowd, "PING\r\n", "+PONG\r\n")
	took := u.logged("this process has the clients of the one before").Sub(u.logged("the new process serves"))
	median, longest := waits[len(waits)/2], waits[len(waits)-1]
	t.Logf("handing %d idle and %d busy clients over took %s; the busy ones waited for %s at most, in the median %s",
		idle, len(busy), took, longest.Round(time.Millisecond), median.Round(time.Millisecond))
	if median > took/2 {
		t.Errorf("of %s, busy clients have waited for %s", took, median)
	}
}
