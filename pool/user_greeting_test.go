package pool

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// TestGreetingEndsAsTheUser: a connection for a user of the nodes does all else as keyway, and is not
// ready before the node has accepted the user. The node's error is the reason if it does not, and
// keyway's own refusal is not taken for the user's.
func TestGreetingEndsAsTheUser(t *testing.T) {
	login := string(resp.AppendCommand(nil, "AUTH", "app", "pw"))
	greet := func(answer string) *bench {
		b := newBench(t, Config{Account: Account{Username: "keyway", Password: "kw"}})
		b.c.User, b.c.DB = &Account{Username: "app", Password: "pw"}, 3
		b.c.Open(b.now)
		b.c.Connected(b.now)
		var steps []string
		for step := b.written(-1); step != "" && step != login; step = b.written(-1) {
			steps = append(steps, step)
			switch {
			case strings.Contains(step, "CLIENT"):
				b.c.Received([]byte(":77\r\n"), b.now)
			case strings.Contains(step, "PING"):
				b.c.Received([]byte(greetingReply(step)), b.now)
			default:
				b.c.Received([]byte("+OK\r\n"), b.now)
			}
		}
		all := strings.Join(steps, "")
		for _, part := range []string{"keyway", "SELECT", "PING", "CLIENT"} {
			if !strings.Contains(all, part) {
				t.Fatalf("%s is not asked for before the user: %q", part, all)
			}
		}
		if b.c.State() != Greeting {
			t.Fatalf("before the user is accepted, the connection is %s", b.c.State())
		}
		b.c.Received([]byte(answer), b.now)
		return b
	}
	if b := greet("+OK\r\n"); b.c.State() != Ready || b.c.ClientID != 77 {
		t.Errorf("the connection is %s, its id %d", b.c.State(), b.c.ClientID)
	}
	b := greet("-WRONGPASS no\r\n")
	if got := b.c.ConnectError(); got != RefusesUser+"WRONGPASS no" || PasswordRefused(&b.c.Link) {
		t.Errorf("a refused user: %q", got)
	}
	if b := greet("+PONG\r\n"); b.c.State() == Ready {
		t.Error("the connection is ready after another answer than OK")
	}
	b = newBench(t, Config{Account: Account{Username: "keyway", Password: "kw"}})
	b.c.User = &Account{Username: "app", Password: "pw"}
	b.c.Open(b.now)
	b.c.Connected(b.now)
	b.written(-1)
	b.c.Received([]byte("-WRONGPASS no\r\n"), b.now)
	if got := b.c.ConnectError(); strings.HasPrefix(got, RefusesUser) || !PasswordRefused(&b.c.Link) {
		t.Errorf("keyway's own password is refused: %q", got)
	}
}

// ender ends its connection after an error.
type ender struct{ asker }

func (e *ender) Ends([]byte) string { return "enough" }

// TestReplyThatEndsTheConnection: no reply behind one that spoils the connection is delivered.
func TestReplyThatEndsTheConnection(t *testing.T) {
	b := newBench(t, Config{}).ready()
	b.c.Send(&ender{asker{name: "exec", log: &b.log}}, []byte("<exec>"), b.now, b.now+int64(time.Second))
	b.send("next")
	b.written(-1)
	b.log = nil
	b.c.Received([]byte("-NOPERM no\r\n+QUEUED\r\n"), b.now)
	if got := strings.Join(b.log, "; "); strings.Contains(got, "QUEUED") || !strings.Contains(got, "next") {
		t.Errorf("%s", got)
	}
	if b.c.State() == Ready {
		t.Error("the connection goes on")
	}
}
