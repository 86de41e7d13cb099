package redistest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Node is a redis-server process.
type Node struct {
	t       testing.TB
	Addr    string
	Port    int
	TLSAddr string // where it speaks TLS; see Authority.NodeOptions
	TLSPort int
	bus     int // port of the cluster bus
	args    []string
	env     []string
	cmd     *exec.Cmd
	log     *Log

	ended <-chan error // receives the result of the process when it has ended
}

// Start starts a node with additional options of redis-server, such as "--maxclients",
// "10".
func Start(t testing.TB, options ...string) *Node {
	t.Helper()
	return StartAt(t, "127.0.0.1", FreePort(t), options...)
}

// StartWith is like Start, with more variables in the environment, such as "LD_PRELOAD=FILE".
func StartWith(t testing.TB, env []string, options ...string) *Node {
	t.Helper()
	n := Chosen(t).prepare(t, "127.0.0.1", FreePort(t), options...)
	if n.env == nil {
		n.env = os.Environ()
	}
	n.env = append(n.env, env...)
	n.Run()
	return n
}

// StartAt is like Start, but on another address of this machine.
func StartAt(t testing.TB, host string, port int, options ...string) *Node {
	t.Helper()
	return Chosen(t).startAt(t, host, port, options...)
}

// Run starts the process and waits until it answers. It may be called again after Kill.
func (n *Node) Run() {
	n.t.Helper()
	n.log = new(Log)
	n.cmd = exec.Command(n.args[0], n.args[1:]...)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	n.cmd.Env = n.env
	if err := n.cmd.Start(); err != nil {
		n.t.Fatalf("starting redis-server: %v", err)
	}
	ended := make(chan error, 1)
	n.ended = ended
	go func(cmd *exec.Cmd) { ended <- cmd.Wait() }(n.cmd)
	n.Answers()
}

// Answers waits until the node answers PING.
func (n *Node) Answers() {
	n.t.Helper()
	Eventually(n.t, 10*time.Second, "redis-server answers PING on "+n.Addr, func() bool {
		r := Ask(n.Addr, "PING")
		return r.Text == "PONG" || r.Kind == '-' && !strings.HasPrefix(r.Text, "LOADING")
	})
}

// Attach returns a node for a server that is already running on an address or socket file.
func Attach(t testing.TB, addr string) *Node { return &Node{t: t, Addr: addr} }

// Kill kills the process. If the process has already ended by itself, Kill fails the test
// with the output of the process.
func (n *Node) Kill() {
	if n.cmd == nil || n.cmd.Process == nil {
		return
	}
	select {
	case err := <-n.ended:
		n.t.Errorf("redis-server on %s ended by itself: %v\n%.3000s", n.Addr, err, n.log)
	default:
		n.cmd.Process.Signal(syscall.SIGCONT) // a stopped process takes longer to die
		n.cmd.Process.Kill()
		<-n.ended
	}
	n.cmd = nil
}

// AwaitEnd waits until the process has ended, for example after SHUTDOWN.
func (n *Node) AwaitEnd() {
	n.t.Helper()
	select {
	case <-n.ended:
		n.cmd = nil
	case <-time.After(10 * time.Second):
		n.t.Errorf("redis-server on %s does not end", n.Addr)
	}
}

// Freeze suspends the process until Thaw.
func (n *Node) Freeze() { n.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw resumes a suspended process.
func (n *Node) Thaw() { n.cmd.Process.Signal(syscall.SIGCONT) }

// Pid returns the process ID.
func (n *Node) Pid() int { return n.cmd.Process.Pid }

// Do sends one command directly to the node, and fails the test if the reply is an error.
func (n *Node) Do(args ...string) Reply {
	n.t.Helper()
	c := Dial(n.t, n.Addr)
	defer c.Close()
	return c.MustDo(args...)
}

// Role returns "master" or "slave", or "" if the node does not answer: it closes all client
// connections when a sentinel changes its role.
func (n *Node) Role() string {
	n.t.Helper()
	c := Dial(n.t, n.Addr)
	defer c.Close()
	r, err := c.TryDo("ROLE")
	if err != nil || r.Kind != '*' {
		return ""
	}
	return r.Elems[0].Text
}

// Keys returns the keys on the node, without those of processes that move others: one that dies leaves them for a
// while.
func (n *Node) Keys() (keys []string) {
	n.t.Helper()
	c := Dial(n.t, n.Addr)
	defer c.Close()
	for _, e := range c.MustDo("KEYS", "*").Elems {
		if !strings.HasPrefix(e.Text, "keyway:guard:") {
			keys = append(keys, e.Text)
		}
	}
	return keys
}

// Eventually waits until ok returns true. It fails the test after the duration within.
func Eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(pause)
	}
}

// WriteFile writes a file in a temporary directory of the test, and returns its path.
func WriteFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Three starts three standalone nodes.
func Three(t testing.TB) []*Node {
	t.Helper()
	return Chosen(t).Three(t)
}

// NodesYAML returns the nodes section of a configuration with these standalone nodes, named
// a, b, c...
func NodesYAML(nodes []*Node) string {
	s := "nodes:\n"
	for i, n := range nodes {
		s += fmt.Sprintf("  - {name: %c, addr: %s}\n", 'a'+i, n.Addr)
	}
	return s
}

// Ring returns a configuration with the layout ring and these nodes, named a, b, c...
func Ring(addrs ...string) string {
	s := "layout: ring\nnodes:\n"
	for i, addr := range addrs {
		s += fmt.Sprintf("  - {name: %c, addr: %q}\n", 'a'+i, addr)
	}
	return s
}

// BusyScript returns a script that keeps its node busy for the duration d and then returns
// "done". It uses os.clock where scripts have it, because TIME stands still within a script
// since Redis 7.2. Older versions have no os.clock, so it uses TIME there.
func BusyScript(d time.Duration) string {
	return fmt.Sprintf(`local clock = pcall(function() return os.clock() end)
local function now()
	if clock then return os.clock()*1000 end
	local t = redis.call('TIME')
	return t[1]*1000 + t[2]/1000
end
local over = now() + %d
repeat until now() > over
return 'done'`, d.Milliseconds())
}
