package test

import (
	"fmt"
	"net"
	"os"
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
