package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// logBuffer is a log that a test reads while it grows.
type logBuffer struct{ redistest.Log }

// has waits until a line contains all the words.
func (l *logBuffer) has(t *testing.T, words ...string) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, fmt.Sprintf("the log has a line with %q", words), func() bool {
		for line := range strings.Lines(l.String()) {
			n := 0
			for _, w := range words {
				if strings.Contains(line, w) {
					n++
				}
			}
			if n == len(words) {
				return true
			}
		}
		return false
	})
}

func logged(t *testing.T, yaml string, level slog.Level) (*redistest.Keyway, *logBuffer) {
	t.Helper()
	l := new(logBuffer)
	log := slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
	return redistest.ServeWith(t, yaml, server.Options{Log: log}), l
}

// TestLogStalls: the reader of the log stops reading, and clients are served as before.
func TestLogStalls(t *testing.T) {
	redistest.OfAProcess(t)
	reader, writer := fullPipe(t)
	defer reader.Close()
	node := redistest.Start(t)
	addr, adminAddr := freeAddr(t), freeAddr(t)
	yaml := fmt.Sprintf("listen: %s\nadmin: %s\nclients: {password: x}\n", addr, adminAddr)
	file := redistest.WriteFile(t, "keyway.yml", yaml+redistest.Ring(node.Addr))
	cmd := exec.Command(redistest.Build(t), "serve", "-c", file, "--log-level", "debug")
	cmd.Stderr = writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer cmd.Process.Kill()
	redistest.Eventually(t, 10*time.Second, "clients are served", func() bool {
		return redistest.Ask(addr, "AUTH", "x").Text == "OK"
	})
	for range 700 { // each takes three lines
		redistest.Exchange(t, addr, "*x\r\n", nil)
	}
	redistest.Eventually(t, 10*time.Second, "dropped lines are counted", func() bool {
		m := get(t, "http://"+adminAddr+"/metrics")
		return strings.Contains(m, "\nkeyway_log_lines_dropped_total ") &&
			!strings.Contains(m, "\nkeyway_log_lines_dropped_total 0\n")
	})
	var text logBuffer
	read := make(chan struct{})
	go func() {
		io.Copy(&text, reader)
		close(read)
	}()
	text.has(t, "log lines were dropped", "lines=")
	cmd.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil {
		t.Errorf("keyway ended with %v", err)
	}
	<-read
	if !strings.Contains(text.String(), "msg=stopped") {
		t.Error("the last line is missing")
	}
}

// fullPipe returns the ends of a pipe that takes no more bytes until some are read.
func fullPipe(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	var ends [2]int
	if err := syscall.Pipe(ends[:]); err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(ends[0])
	syscall.CloseOnExec(ends[1])
	syscall.SetNonblock(ends[1], true)
	for junk := bytes.Repeat([]byte{'\n'}, 4096); ; {
		if _, err := syscall.Write(ends[1], junk); err != nil {
			break // full
		}
	}
	syscall.SetNonblock(ends[1], false)
	return os.NewFile(uintptr(ends[0]), "log"), os.NewFile(uintptr(ends[1]), "log")
}

// freeAddr returns an address of this machine on which no process listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
}

// TestLogReaderDies: keyway survives the end of its terminal, and of the process that reads
// its log.
func TestLogReaderDies(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	node := redistest.Start(t)
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	file := redistest.WriteFile(t, "keyway.yml", "listen: "+addr+"\n"+redistest.Ring(node.Addr))
	cmd := exec.Command(redistest.Build(t), "serve", "-c", file, "--log-level", "debug")
	cmd.Stderr = writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	defer cmd.Process.Kill()
	answers := func() bool {
		return redistest.Ask(addr, "SET", "a", "1").Text == "OK"
	}
	redistest.Eventually(t, 10*time.Second, "keyway answers", answers)
	reader.Close()
	for range 10 {
		cmd.Process.Signal(syscall.SIGHUP)
		redistest.Eventually(t, 10*time.Second, "keyway still answers", answers)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("keyway ended with %v", err)
	}
}

// TestStoppingInTwoSteps: after SIGTERM keyway says that it is not ready and still serves, for
// as long as shutdown.delay says; a second SIGTERM ends it at once.
func TestStoppingInTwoSteps(t *testing.T) {
	node := redistest.Start(t)
	adminAddr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	p := redistest.ServeProcess(t, "admin: "+adminAddr+"\nshutdown: {delay: 3m}\n"+redistest.Ring(node.Addr))
	p.Cmd.Process.Signal(syscall.SIGHUP)
	redistest.Eventually(t, 10*time.Second, "the configuration is read again", func() bool {
		return strings.Contains(p.Stderr.String(), "reloaded; the file says what it said before")
	})
	blocked := redistest.Dial(t, p.Addr)
	blocked.Send("BLPOP", "nothing", "0")
	blocked.Flush()
	p.Cmd.Process.Signal(syscall.SIGTERM)
	redistest.Eventually(t, 10*time.Second, "keyway is not ready any more", func() bool {
		status, body := fetch(t, "http://"+adminAddr+"/readyz")
		return status == http.StatusServiceUnavailable && strings.HasPrefix(body, "keyway is stopping\nclients left: ")
	})
	redistest.Dial(t, p.Addr).Expect("OK", "SET", "a", "1")
	began := time.Now()
	p.Cmd.Process.Signal(syscall.SIGTERM)
	p.Cmd.Wait()
	if elapsed := time.Since(began); elapsed > time.Minute {
		t.Errorf("it ended after %s", elapsed)
	}
	if log := p.Stderr.String(); !strings.Contains(log, "stopping") {
		t.Errorf("%s", log)
	}
}

func fetch(t *testing.T, url string) (status int, body string) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	r, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		return 0, ""
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(b)
}

// TestInfoOfTheProcess: INFO and CONFIG GET port describe keyway's process, the same on every
// thread, and not a node's.
func TestInfoOfTheProcess(t *testing.T) {
	node := redistest.Start(t)
	k := redistest.Serve(t, "threads: 2\n"+redistest.Ring(node.Addr)).Ready()
	_, port, _ := net.SplitHostPort(k.Addr)
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k.Dial().Expect("[port "+port+"]", "CONFIG", "GET", "port")
	ids := map[string]bool{}
	for range 8 {
		info := k.Dial().MustDo("INFO", "server").Text
		fields := map[string]string{}
		for line := range strings.SplitSeq(info, "\r\n") {
			name, value, _ := strings.Cut(line, ":")
			fields[name] = value
		}
		for name, want := range map[string]string{
			"tcp_port": port, "process_id": fmt.Sprint(os.Getpid()), "executable": executable, "uptime_in_days": "0",
		} {
			if fields[name] != want {
				t.Errorf("%s is %q, want %q", name, fields[name], want)
			}
		}
		if !strings.HasSuffix(fields["config_file"], "/test.yml") || len(fields["run_id"]) != 40 {
			t.Errorf("config_file %q, run_id %q", fields["config_file"], fields["run_id"])
		}
		ids[fields["run_id"]] = true
	}
	if len(ids) != 1 || strings.Contains(node.Do("INFO", "server").Text, fmt.Sprint(ids)[4:44]) {
		t.Errorf("run ids %v", ids)
	}
}

// TestReadyNamesDeadNodes: a dead node is named; it makes keyway not ready if ready is all, or if
// no other is left.
func TestReadyNamesDeadNodes(t *testing.T) {
	nodes := redistest.Three(t)
	admins := map[string]string{}
	for _, ready := range []string{"any", "all"} {
		admins[ready] = fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
		yaml := "threads: 2\nready: " + ready + "\nadmin: " + admins[ready] + "\n"
		redistest.ServeProcess(t, yaml+redistest.Layouts(nodes)["ring"])
	}
	expect := func(ready string, want int, words string) {
		t.Helper()
		what := fmt.Sprintf("ready: %s answers %d, %s", ready, want, words)
		redistest.Eventually(t, 10*time.Second, what, func() bool {
			status, body := fetch(t, "http://"+admins[ready]+"/readyz")
			return status == want && strings.Contains(body, words)
		})
	}
	expect("any", 200, "ok\n")
	expect("all", 200, "ok\n")
	nodes[1].Kill()
	dead := "node b " + nodes[1].Addr + " cannot be reached: "
	expect("any", 200, "ok\n"+dead)
	expect("all", 503, "2 of 3 nodes can serve\n"+dead)
	nodes[0].Kill()
	nodes[2].Kill()
	expect("any", 503, "no node can serve\n")
	expect("all", 503, "no node can serve\n")
}

// TestTLSOnPlainPort: a client that speaks TLS gets an error at once, and is logged and counted.
func TestTLSOnPlainPort(t *testing.T) {
	node := redistest.Start(t)
	for _, streams := range []bool{false, true} {
		l := new(logBuffer)
		k := redistest.ServeWith(t, redistest.Ring(node.Addr),
			server.Options{Log: slog.New(slog.NewTextHandler(l, nil)), Streams: streams}).Ready()
		conn, err := net.Dial("tcp", k.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second)) // Redis and keyway wait 30 s for a command's end
		err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake()
		if err == nil || strings.Contains(err.Error(), "timeout") ||
			!strings.Contains(err.Error(), "does not look like a TLS handshake") {
			t.Errorf("%v", err)
		}
		l.has(t, "client refused", "speaks TLS", "client="+conn.LocalAddr().String())
		if n := k.Snapshot()[0].ClosedTLS; n != 1 {
			t.Errorf("%d counted", n)
		}
		// Redis reads a lone 0x16 as the beginning of a line.
		if got, _ := redistest.Exchange(t, k.Addr, "\x16\r\n", nil); !strings.HasPrefix(got, "-ERR unknown command") {
			t.Errorf("%q", got)
		}
	}
}

// TestRefusalsAreLogged: a wrong password is logged with the client's address and
// without the password, once a second at most.
func TestRefusalsAreLogged(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k, l := logged(t, "clients: {password: right, max: 2}\n"+redistest.Ring(node.Addr), slog.LevelInfo)
	c := k.Ready().Dial()
	for range 8 {
		c.Expect("-WRONGPASS invalid username-password pair or user is disabled.", "AUTH", "hunter2")
	}
	l.has(t, "client refused", `reason="wrong password"`, "client="+c.Conn.LocalAddr().String())
	other := k.Dial()
	other.Expect("OK", "AUTH", "right")
	if got, _ := redistest.Exchange(t, k.Addr, "", nil); !strings.HasPrefix(got, "-ERR max number of clients") {
		t.Errorf("%q", got)
	}
	l.has(t, "client refused", `reason="clients.max is reached"`)
	if log := l.String(); strings.Contains(log, "hunter2") || strings.Count(log, "wrong password") > 3 {
		t.Errorf("%s", log)
	}
}

// TestDebugLog: what happens to connections is logged, with names, at level debug.
func TestDebugLog(t *testing.T) {
	node := redistest.Start(t)
	k, l := logged(t, redistest.Ring(node.Addr), slog.LevelDebug)
	c := k.Ready().Dial()
	c.Expect("PONG", "PING")
	l.has(t, "connected to a node", "node=a", "addr="+node.Addr)
	l.has(t, "client accepted", "client="+c.Conn.LocalAddr().String())
	c.Close()
	l.has(t, "client gone", "client=")
	node.Kill()
	l.has(t, "level=WARN", "node unreachable", "node=a", "addr="+node.Addr)
	node.Run()
	l.has(t, "level=INFO", "node reachable again", "node=a")
}

// TestTopologyLog: the log says which slots have moved, from where to where, and which
// nodes have another role.
func TestTopologyLog(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1)
	k, l := logged(t, c.SeedsYAML(), slog.LevelInfo)
	k.Ready()
	c.Failover(3)
	c2 := k.Dial()
	redistest.Eventually(t, 20*time.Second, "keyway has followed", func() bool {
		c2.Do("SET", "b", "1") // slot 3300
		return strings.Contains(l.String(), "slots moved")
	})
	l.has(t, "topology changed", `what="slots moved"`,
		"from="+c.Nodes[0].Addr, "to="+c.Nodes[3].Addr, "slots=0-5460", "count=5461")
	l.has(t, "topology changed", `what="node is a master now"`, "node="+c.Nodes[3].Addr)
}

// TestLostOwnerIsLogged: when a master is gone for good, the log names its slots, and says
// when they have an owner again.
func TestLostOwnerIsLogged(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 0)
	k, l := logged(t, c.SeedsYAML(), slog.LevelInfo)
	k.Ready()
	client := k.Dial()
	isLogged := func(what string) func() bool {
		return func() bool {
			client.Do("GET", "b") // slot 3300
			return strings.Contains(l.String(), what)
		}
	}
	c.Nodes[0].Kill()
	redistest.Eventually(t, 20*time.Second, "the loss is logged", isLogged("slots have lost their owner"))
	l.has(t, "slots have lost their owner", "last_owner="+c.Nodes[0].Addr, "slots=0-5460", "count=5461")
	c.Nodes[0].Run()
	redistest.Eventually(t, 20*time.Second, "the return is logged", isLogged("slots have an owner again"))
	l.has(t, "slots have an owner again", "node="+c.Nodes[0].Addr, "slots=0-5460", "count=5461")
}
