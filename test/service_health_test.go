package test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestHealthCommand: keyway health prints what the running keyway answers, and ends with status 0
// only if the answer is yes.
func TestHealthCommand(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	adminAddr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	p := redistest.ServeProcess(t, "admin: "+adminAddr+"\n"+redistest.Layouts(nodes)["ring"])
	file := redistest.WriteFile(t, "keyway.yml", "admin: "+adminAddr+"\n"+redistest.Layouts(nodes)["ring"])
	health := func(args ...string) (out string, status int) {
		t.Helper()
		cmd := exec.Command(redistest.Build(t), append([]string{"health"}, args...)...)
		text, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(text), cmd.ProcessState.ExitCode()
	}
	expect := func(status int, words string, args ...string) {
		t.Helper()
		if out, got := health(args...); got != status || !strings.HasPrefix(out, words) {
			t.Errorf("health %q: %d %q, want %d %q", args, got, out, status, words)
		}
	}
	byAddr := "--admin=" + adminAddr
	redistest.Eventually(t, 10*time.Second, "keyway is ready", func() bool {
		_, status := health(byAddr, "--ready", "--nodes=all")
		return status == 0
	})
	expect(0, "ok\n", byAddr)
	expect(0, "ok\n", "-c", file)
	expect(0, "ok\n", "-c", file, "--ready")
	nodes[1].Kill()
	dead := "node b " + nodes[1].Addr + " cannot be reached: "
	redistest.Eventually(t, 10*time.Second, "keyway notices that a node is dead", func() bool {
		out, status := health(byAddr, "--ready", "--nodes=all")
		return status == 1 && strings.HasPrefix(out, "2 of 3 nodes can serve\n"+dead)
	})
	expect(0, "ok\n"+dead, byAddr, "--ready")
	expect(0, "ok\n"+dead, byAddr, "--ready", "--nodes=any")
	expect(0, "ok\n", byAddr)

	refused := redistest.WriteFile(t, "keyway.yml", redistest.Layouts(nodes)["ring"])
	expect(1, "keyway: "+refused+" has no admin address; name those of the running keyways with --admin\n",
		"-c", refused)
	expect(1, "keyway: --nodes belongs to --ready: add --ready, or leave --nodes out\n", byAddr, "--nodes=any")
	expect(1, "keyway: --nodes some: write any or all\n", byAddr, "--ready", "--nodes=some")
	expect(1, "keyway: --timeout 0s: write a duration above 0, such as 5s\n", byAddr, "--timeout=0s")
	expect(1, "keyway: asking keyway at "+p.Addr+": ", "--admin="+p.Addr) // where Redis is spoken
	if status, body := fetch(t, "http://"+adminAddr+"/readyz?nodes=some"); status != http.StatusBadRequest ||
		body != "nodes=some: write any or all\n" {
		t.Errorf("/readyz?nodes=some answers %d %q", status, body)
	}
	p.Freeze()
	expect(1, "keyway: asking keyway at "+adminAddr+": ", byAddr, "--timeout=200ms")
	p.Thaw()
	p.End()
	expect(1, "keyway: asking keyway at "+adminAddr+": ", byAddr)
}

// notifySocket listens where systemd would.
func notifySocket(t *testing.T) *net.UnixConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // t.TempDir's path can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	at := &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}
	socket, err := net.ListenUnixgram("unixgram", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		socket.Close()
		os.RemoveAll(dir)
	})
	return socket
}

// asSystemd listens as systemd does, at the path that it returns. hears waits for the next message,
// which must match the pattern. It passes over messages that keyway is alive, unless it waits for
// one.
func asSystemd(t *testing.T) (path string, hears func(pattern string)) {
	t.Helper()
	socket := notifySocket(t)
	return socket.LocalAddr().String(), func(pattern string) {
		t.Helper()
		b := make([]byte, 4096)
		_ = socket.SetReadDeadline(time.Now().Add(20 * time.Second))
		text := "WATCHDOG=1\n"
		for first := true; first || text == "WATCHDOG=1\n" && text != pattern; first = false {
			n, err := socket.Read(b)
			if err != nil {
				t.Fatalf("systemd does not hear %s: %v", pattern, err)
			}
			text = string(b[:n])
		}
		if !regexp.MustCompile("^" + pattern + "$").MatchString(text) {
			t.Fatalf("systemd hears %q, want %s", text, pattern)
		}
	}
}

// TestServiceOfSystemd: keyway tells systemd that it is ready, alive, reloads and stops, as
// sd_notify(3) says.
func TestServiceOfSystemd(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	path, hears := asSystemd(t)
	node := redistest.Start(t)
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	text := "listen: " + addr + "\nshutdown: {delay: 1s, drain: 3s, timeout: 7s}\n" + redistest.Ring(node.Addr)
	file := redistest.WriteFile(t, "keyway.yml", text)
	p := redistest.StartCommand(t, "env", "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=400000",
		redistest.Build(t), "serve", "-c", file)
	serving := "READY=1\nSTATUS=serving ring on " + addr
	hears(regexp.QuoteMeta(serving + "\n"))
	hears("WATCHDOG=1\n")
	hears("WATCHDOG=1\n")
	reload := func(text, then string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p.Cmd.Process.Signal(syscall.SIGHUP)
		hears("RELOADING=1\nMONOTONIC_USEC=[0-9]+\n")
		hears(then)
	}
	reload(text+"slowlog: {entries: 7}\n", regexp.QuoteMeta(serving+"\n"))
	reload(text+"zzz: 7\n", regexp.QuoteMeta(serving+"; not reloaded, nothing was changed: "+file)+
		`:[0-9]+:1: unknown key "zzz".*`+"\n")
	reload(text, regexp.QuoteMeta(serving+"\n"))
	p.Cmd.Process.Signal(syscall.SIGTERM)
	hears("STOPPING=1\nSTATUS=stopping: closing the clients\nEXTEND_TIMEOUT_USEC=16000000\n")
	if err := p.Cmd.Wait(); err != nil {
		t.Errorf("keyway after SIGTERM: %v\n%s", err, p.Stderr)
	}
}

// TestSystemdSocketIsGone: without systemd's socket keyway serves all the same, and warns.
func TestSystemdSocketIsGone(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	p := redistest.ServeProcess(t, redistest.Ring(node.Addr), "env", "NOTIFY_SOCKET=/nowhere/notify")
	p.End()
	if log := p.Stderr.String(); !strings.Contains(log, "cannot tell systemd that keyway runs") {
		t.Error(log)
	}
}

// TestGoMemoryLimit: the limit of Go's runtime follows limits.memory, unless GOMEMLIMIT is in the
// environment.
func TestGoMemoryLimit(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	for env, want := range map[string]string{"A=b": "6.7108864e+07", "GOMEMLIMIT=100MiB": "1.048576e+08"} {
		adminAddr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
		yaml := "admin: " + adminAddr + "\nlimits: {memory: 64mb}\n" + redistest.Ring(node.Addr)
		redistest.ServeProcess(t, yaml, "env", env)
		metrics := get(t, "http://"+adminAddr+"/metrics")
		limit := regexp.MustCompile("(?m)^go_gc_gomemlimit_bytes .*").FindString(metrics)
		if !strings.HasSuffix(limit, " "+want) {
			t.Errorf("%s: %s, want %s", env, limit, want)
		}
	}
}

// TestThreadsFollowTheProcessors: `threads: auto` makes as many event loops as the process has
// processors.
func TestThreadsFollowTheProcessors(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	p := redistest.ServeProcess(t, "threads: auto\n"+redistest.Ring(node.Addr), "env", "GOMAXPROCS=1")
	if info := redistest.Ask(p.Addr, "INFO", "keyway").Text; !strings.Contains(info, "threads:1\r\n") {
		t.Error(info)
	}
}
