package test

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// answering returns the address of a server that answers each request with the same text,
// and closes the connection if the text is empty.
func answering(t *testing.T, text string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for b := make([]byte, 4096); ; {
					if _, err := c.Read(b); err != nil || text == "" {
						return
					}
					if _, err := c.Write([]byte(text)); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// silent returns the address of a server that accepts connections and answers nothing.
func silent(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

// TestCheckNamesTheRemedy: for each way in which a node fails, check says what to do, and
// nothing that would not help.
func TestCheckNamesTheRemedy(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nowhere := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	open, guarded := redistest.Start(t).Addr, redistest.Start(t, "--requirepass", "right").Addr
	narrow := redistest.Start(t, "--user", "low", "on", ">p", "~*", "+ping", "+auth").Addr
	for _, c := range []struct{ name, addr, more, want string }{
		{"refused", nowhere, "", "cannot be reached: connection refused; start it, or correct its address"},
		{"no such name", "nonexistent.invalid:1", "", "; correct its name, or write its IP address"},
		{"silence", silent(t), "", "does not answer in time: i/o timeout; correct its address, let firewalls pass"},
		{
			"wrong password", guarded, "backend: {password: wrong}",
			"refuses keyway: WRONGPASS invalid username-password pair or user is disabled; " +
				"correct backend.username and backend.password",
		},
		{"no password", guarded, "", "refuses keyway: NOAUTH Authentication required; write backend.password"},
		{
			"a password too many", open, "backend: {password: x}",
			"; remove backend.password, or set the server's requirepass",
		},
		{
			"narrow rights", narrow, "backend: {username: low, password: p}",
			"permissions to run the 'info' command; allow its user the command: ACL SETUSER NAME +COMMAND",
		},
		{"TLS", answering(t, ""), "", "closes the connection without an answer; if its port speaks TLS, write"},
		{"HTTP", answering(t, "HTTP/1.1 400 Bad Request\r\n"), "", `400 Bad Request"; correct its address`},
		{
			"loading", answering(t, "-LOADING Redis is loading the dataset in memory\r\n"), "",
			"; wait until the server has loaded its data",
		},
		{
			"full", answering(t, "-ERR max number of clients reached\r\n"), "",
			"; raise the server's maxclients, or close connections",
		},
	} {
		out, ok := check(t, redistest.Ring(c.addr)+c.more+"\n", "--connect")
		startIt := strings.Contains(out, "start it") != (c.name == "refused")
		if ok || lines(out, "problem: node a ", c.want) != 1 || startIt {
			t.Errorf("%s: %s\nwant %s", c.name, out, c.want)
		}
	}
}

// TestCheckNamesTheRemedyForSeeds: the same for a cluster's seeds and for sentinels.
func TestCheckNamesTheRemedyForSeeds(t *testing.T) {
	t.Parallel()
	open, guarded := redistest.Start(t).Addr, redistest.Start(t, "--requirepass", "right").Addr
	nowhere := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	sentinel := func(addr, more string) string {
		return "layout: ring\nnodes: [{name: a, sentinel: {master: m, addrs: [\"" + addr + "\"]" + more + "}}]\n"
	}
	seeds := func(addrs string) string { return "slots: {seeds: [" + addrs + "]}\n" }
	for yaml, want := range map[string]string{
		seeds(nowhere): "connection refused; start it, or correct its address; keyway check --offline asks no node",
		seeds(open):    "; name nodes of a cluster; for standalone nodes write layout: ring, range or modulo",
		seeds(guarded): "; write backend.password;",

		// The seed that answers matters.
		seeds(nowhere + ", " + guarded): "; write backend.password;",

		sentinel(open, ""):                 "; name sentinels, not Redis nodes",
		sentinel(guarded, ", password: x"): "; correct nodes[0].sentinel.username and nodes[0].sentinel.password",
	} {
		if out, ok := check(t, yaml); ok || !strings.Contains(out, want) {
			t.Errorf("%s%s\nwant %s", yaml, out, want)
		}
	}
}

// TestCheckOfADirectory: the error says which file was probably meant.
func TestCheckOfADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, err := exec.Command(redistest.Build(t), "check", "-c", dir).CombinedOutput()
	want := "is a directory; name the file in it, such as --config " + filepath.Join(dir, "keyway.yml")
	if err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%s", out)
	}
}

// TestDemoErrorsNameTheFlag: demo has no file, so its errors name the flag.
func TestDemoErrorsNameTheFlag(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--layout rong":         `keyway: --layout: unknown layout "rong"; write slots, ring, range or modulo`,
		"--listen 6380":         `keyway: --listen: "6380" is not an address; write HOST:PORT`,
		"--write /":             "--write: / exists; name a new file",
		"--listen " + silent(t): "address already in use; end what uses the address, or listen elsewhere",
	} {
		words := append([]string{"demo", "--admin", freeAddr(t)}, strings.Fields(args)...)
		out, err := exec.Command(redistest.Build(t), words...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) || !strings.HasPrefix(string(out), "keyway: --") {
			t.Errorf("demo %s: %s", args, out)
		}
	}
}

// TestDemotedMasterIsLogged: if somebody makes a master of a ring a replica, the log says
// what is wrong and what to do, and says when it is a master again.
func TestDemotedMasterIsLogged(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := []*redistest.Node{redistest.Start(t), redistest.Start(t)}
	adminAddr := freeAddr(t)
	p := redistest.ServeProcess(t, "admin: "+adminAddr+"\n"+redistest.Ring(nodes[0].Addr))
	isReady := func(want int, why string) func() bool {
		return func() bool {
			status, body := fetch(t, "http://"+adminAddr+"/readyz")
			return status == want && strings.Contains(body, why)
		}
	}
	host, port, _ := net.SplitHostPort(nodes[1].Addr)
	nodes[0].Do("REPLICAOF", host, port)
	redistest.Eventually(t, 30*time.Second, "keyway is not ready, and says why", isReady(503, "is a replica"))
	nodes[0].Do("REPLICAOF", "NO", "ONE")
	redistest.Eventually(t, 30*time.Second, "keyway is ready again", isReady(200, ""))
	p.End()
	log := p.Stderr.String()
	if lines(log, "level=ERROR", "a node cannot serve its keys", "node=a", "addr="+nodes[0].Addr,
		`problem="is a replica, and cannot be written to"`, "REPLICAOF NO ONE") != 1 ||
		lines(log, "level=INFO", "a node can serve its keys again", "node=a", `problem_was="is a replica`) != 1 {
		t.Errorf("%s", log)
	}
	if strings.Contains(log, "ring.hash") {
		t.Errorf("a note that only check prints: %s", log)
	}
}
