package redistest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/wiring"
)

// Keyway is a keyway that runs inside the test.
type Keyway struct {
	t      testing.TB
	Addr   string
	Server *server.Server
	cancel context.CancelFunc
	done   chan error
}

// Serve starts a keyway with this configuration. It listens on a free port unless the
// configuration has listen.
func Serve(t testing.TB, yaml string) *Keyway {
	t.Helper()
	return ServeWith(t, yaml, server.Options{})
}

// ServeWith is like Serve, with options.
func ServeWith(t testing.TB, yaml string, o server.Options) *Keyway {
	t.Helper()
	test, _, _ := strings.Cut(t.Name(), "/")
	if _, is := ofProcesses.Load(test); is {
		t.Fatal("this test calls OfAProcess, so its keyways are processes")
	}
	cfg, err := config.Parse("test.yml", []byte("listen: 127.0.0.1:0\n"+yaml), os.LookupEnv)
	if err != nil {
		// The configuration may have a listen already.
		if cfg, err = config.Parse("test.yml", []byte(yaml), os.LookupEnv); err != nil {
			t.Fatal(err)
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	srv, err := wiring.NewServer(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := func() { cancel(server.ErrAtOnce) }
	k := &Keyway{t: t, Addr: srv.Addrs()[0].String(), Server: srv, cancel: stop, done: make(chan error, 1)}
	go func() { k.done <- srv.Run(ctx) }()
	t.Cleanup(k.Stop)
	return k
}

// Emulating starts n keyways that together emulate a cluster.
func Emulating(t testing.TB, n int, yaml string) (keyways []*Keyway) {
	t.Helper()
	for _, text := range emulations(t, n) {
		keyways = append(keyways, Serve(t, text+yaml).Ready())
	}
	return keyways
}

// emulations returns the first lines of the configurations of n such keyways.
func emulations(t testing.TB, n int) (texts []string) {
	t.Helper()
	var addrs []string
	for range n {
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", FreePort(t)))
	}
	for i, addr := range addrs {
		peers := append(append([]string{}, addrs[:i]...), addrs[i+1:]...)
		texts = append(texts, fmt.Sprintf("listen: %s\ncluster: {emulate: true, announce: %q, peers: [%s]}\n",
			addr, addr, strings.Join(peers, ", ")))
	}
	return texts
}

// Ready waits until every master is reachable and every key has a node.
func (k *Keyway) Ready() *Keyway {
	k.t.Helper()
	// A thread handles its sockets' events between two snapshots. After this snapshot, the
	// next one therefore includes connections that have ended before.
	k.Snapshot()
	Eventually(k.t, 20*time.Second, "keyway reaches every node", func() bool {
		for _, s := range k.Snapshot() {
			masters := 0
			for _, n := range s.Nodes {
				if n.Master {
					masters++
				}
				if n.Master && !n.Up {
					return false
				}
			}
			if masters == 0 || !s.Covered {
				return false
			}
		}
		return true
	})
	return k
}

// Snapshot returns the counters of all threads.
func (k *Keyway) Snapshot() []metrics.Snapshot {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := k.Server.Snapshot(ctx)
	if err != nil {
		k.t.Fatal(err)
	}
	return s
}

// Dial connects a client.
func (k *Keyway) Dial() *Client {
	k.t.Helper()
	return Dial(k.t, k.Addr)
}

// Stop stops the keyway and waits until it has ended.
func (k *Keyway) Stop() {
	if k.cancel == nil {
		return
	}
	k.cancel()
	k.cancel = nil
	select {
	case err := <-k.done:
		if err != nil {
			k.t.Errorf("keyway ended with: %v", err)
		}
	case <-time.After(30 * time.Second):
		k.t.Error("keyway does not stop")
	}
}

// Layouts returns, by layout, configurations of the same three nodes that differ only in
// their first line.
func Layouts(nodes []*Node) map[string]string {
	common := NodesYAML(nodes) + `
slots: {static: {a: 0-5460, b: 5461-10922, c: 10923-16383}}
range:
  rules:
    - {prefix: "user:", from: 1, to: 1000, node: a}
    - {prefix: "user:", from: 1001, to: 2000, node: b}
    - {from: "a", to: "m", node: c}
  default: a
`
	m := map[string]string{}
	for _, l := range []string{"slots", "ring", "range", "modulo"} {
		m[l] = fmt.Sprintf("layout: %s\n", l) + common
	}
	return m
}

// testLog writes log lines to the test's log.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", p)
	return len(p), nil
}

// Slotted reports whether the layout is slots.
func (k *Keyway) Slotted() bool { return k.Snapshot()[0].Layout == "slots" }
