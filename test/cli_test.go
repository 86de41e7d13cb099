package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

func TestDemoServesEachLayout(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	for _, layout := range []string{"slots", "ring", "range", "modulo"} {
		t.Run(layout, func(t *testing.T) {
			addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
			file := filepath.Join(t.TempDir(), "keyway.yml")
			p := redistest.StartProcess(t, "demo", "--layout", layout, "--nodes", "4", "--listen", addr,
				"--admin", freeAddr(t), "--load", "--write", file)
			redistest.Eventually(t, 10*time.Second, "the demo answers and has printed its page", func() bool {
				return redistest.Ask(addr, "PING").Text == "PONG" && strings.Contains(p.Stdout.String(), "Ctrl-C")
			})
			_, page, _ := strings.Cut(p.Stdout.String(), "In a browser: ")
			page, _, _ = strings.Cut(page, "\n")
			if status, _ := fetch(t, page); status != http.StatusOK {
				t.Errorf("the page %q answers %d", page, status)
			}
			c := redistest.Dial(t, addr)
			checkExampleKeys(t, c, p.Stdout.String())
			c.Expect("OK", "MSET", "user:1", "ann", "user:1500", "bob", "cart:7", "book")
			c.Expect("[ann bob book]", "MGET", "user:1", "user:1500", "cart:7")
			info := c.MustDo("INFO", "keyway").Text
			if !strings.Contains(info, "masters_up:4") || !strings.Contains(info, "layout:"+layout) {
				t.Errorf("INFO keyway: %q", info)
			}
			redistest.Eventually(t, 10*time.Second, "the load is there", func() bool {
				return c.MustDo("GET", "product:42").Text != "" &&
					strings.Contains(c.MustDo("CLIENT", "LIST").Text, " name=checkout ")
			})
			_, port, _ := strings.Cut(addr, ":")
			if l := statLines(t, port)(); l.keys < 3 || l.memory < 1 || l.clients < 2 || l.requests < 5 {
				t.Errorf("redis-cli --stat shows %+v", l)
			}
			c.Close()
			p.End()
			if out := p.Stdout.String(); strings.Count(out, "redis-cli") < 3 || strings.Count(out, "  node ") != 4 {
				t.Errorf("the demo prints: %s", out)
			}
			if log := p.Stderr.String(); log != "" {
				t.Errorf("the demo logs: %s", log)
			}
			if out := outputOf(t, "check", "-c", file); !strings.Contains(out, "127.0.0.1:7104") {
				t.Errorf("keyway check of the written file prints: %s", out)
			}
		})
	}
}

// checkExampleKeys checks that the demo's example keys are on the nodes that it has printed, and can be
// read through keyway.
func checkExampleKeys(t *testing.T, c *redistest.Client, page string) {
	t.Helper()
	found := 0
	for line := range strings.Lines(page) {
		words := strings.Fields(line)
		if len(words) < 5 || !slices.Contains([]string{"user:1", "user:1500", "cart:7", "{user:1}:cart"}, words[0]) {
			continue
		}
		found++
		want := c.MustDo("GET", words[0]).Text
		if got := redistest.Ask(words[len(words)-1], "GET", words[0]).Text; got != want || want == "" {
			t.Errorf("%s: %q on the node, %q through keyway", words[0], got, want)
		}
	}
	if found != 4 {
		t.Errorf("%d example keys in: %s", found, page)
	}
}

func TestServeStopsInOrder(t *testing.T) {
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	addr, adminAddr := freeAddr(t), freeAddr(t)
	yaml := fmt.Sprintf("listen: %s\nadmin: %s\n", addr, adminAddr) + redistest.Layouts(nodes)["ring"] +
		"clients: {password: \"${KEYWAY_TEST_SECRET}\"}\n"
	const secret = "hunter2hunter2"
	t.Setenv("KEYWAY_TEST_SECRET", secret)
	file := redistest.WriteFile(t, "keyway.yml", yaml)
	p := redistest.StartProcess(t, "serve", "-c", file, "--log-format", "json")
	redistest.Eventually(t, 10*time.Second, "keyway is ready", func() bool {
		return get(t, "http://"+adminAddr+"/readyz") == "ok\n"
	})
	c := redistest.Dial(t, addr)
	c.Expect("-NOAUTH Authentication required.", "GET", "x")
	c.Expect("-WRONGPASS invalid username-password pair or user is disabled.", "AUTH", "wrong")
	c.Expect("OK", "AUTH", secret)
	c.Expect("OK", "SET", "slow", "1")

	metrics := get(t, "http://"+adminAddr+"/metrics")
	for _, want := range []string{
		`keyway_commands_total{command="set"} 1`,
		`keyway_node_up{addr="` + nodes[0].Addr + `",node="a"} 1`,
		`keyway_command_duration_seconds_count{family="string"}`,
		"keyway_auth_failures_total 1",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if get(t, "http://"+adminAddr+"/healthz") != "ok\n" {
		t.Error("/healthz is not ok")
	}

	// A command that a node is still busy with is answered before the end.
	done := make(chan redistest.Reply, 1)
	go func() {
		r, _ := c.TryDo("EVAL", redistest.BusyScript(3*time.Second), "1", "slow")
		done <- r
	}()
	redistest.Eventually(t, 20*time.Second, "the slow command is under way", func() bool {
		metrics := get(t, "http://"+adminAddr+"/metrics")
		return strings.Contains(metrics, "keyway_node_in_flight{addr=") && inFlight(metrics) > 0
	})
	p.End()
	if r := <-done; r.Text != "done" {
		t.Errorf("the command under way at SIGTERM: %s", r)
	}
	if all := metrics + p.Stderr.String() + p.Stdout.String(); strings.Contains(all, secret) {
		t.Error("the password is in the metrics or the log")
	}
	for line := range strings.Lines(p.Stderr.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("a log line is no JSON: %s", line)
		}
	}
}

func inFlight(metrics string) (sum float64) {
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "keyway_node_in_flight{") {
			var v float64
			fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v)
			sum += v
		}
	}
	return sum
}

func get(t testing.TB, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DisableKeepAlives: true, DialContext: new(net.Dialer).DialContext}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

func TestCheckAndRoute(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	binary := redistest.Build(t)
	nodes := redistest.Three(t)
	for name, yaml := range redistest.Layouts(nodes) {
		file := redistest.WriteFile(t, "keyway.yml",
			yaml+"clients: {password: hunter2hunter2}\nbackend: {password: hunter3hunter3}\n")
		out, err := exec.Command(binary, "check", "-c", file).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "is valid: layout "+name) ||
			strings.Contains(string(out), "hunter") {
			t.Errorf("check %s: %v\n%s", name, err, out)
		}
		for _, n := range nodes {
			if !strings.Contains(string(out), n.Addr) {
				t.Errorf("check %s does not list %s:\n%s", name, n.Addr, out)
			}
		}
		out, err = exec.Command(binary, "route", "-c", file, "{user1}:a", "user:1500").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "user1 ") {
			t.Errorf("route %s: %v\n%s", name, err, out)
		}
	}
	c := redistest.NewCluster(t, 3, 0)
	file := redistest.WriteFile(t, "keyway.yml", c.SeedsYAML())
	out, err := exec.Command(binary, "check", "-c", file).CombinedOutput()
	if err != nil || lines(string(out), "  33.3") != 3 {
		t.Errorf("check of a cluster: %v\n%s", err, out)
	}
	w := redistest.NewWatched(t, "east")
	file = redistest.WriteFile(t, "keyway.yml", "layout: ring\n"+w.NodesYAML())
	out, err = exec.Command(binary, "check", "-c", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), w.Masters[0].Addr+"  100.00 %") ||
		!strings.Contains(string(out), w.Replicas[0].Addr+"  replica") {
		t.Errorf("check with sentinels: %v\n%s", err, out)
	}
	for _, s := range w.Sentinels {
		s.Kill()
	}
	out, err = exec.Command(binary, "route", "-c", file, "x").CombinedOutput()
	want := "keyway.yml:3:25: nodes[0].sentinel: no sentinel reports the address of east"
	if err == nil || !strings.Contains(string(out), want) {
		t.Errorf("route without sentinels: %v\n%s", err, out)
	}
	bad := redistest.WriteFile(t, "bad.yml", "layout: rings\n")
	out, err = exec.Command(binary, "serve", "-c", bad).CombinedOutput()
	want = `bad.yml:1:9: layout: unknown layout "rings"; write slots, ring, range or modulo`
	if err == nil || !strings.Contains(string(out), want) {
		t.Errorf("serve of a bad file: %v\n%s", err, out)
	}
}

// TestCommandLine: a mistake on the command line is an error that says what was meant.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	binary := redistest.Build(t)
	for _, tc := range []struct {
		args, want string
		fails      bool
	}{
		{"serv", `unknown command "serv"; did you mean serve?`, true},
		{"chekc -c x.yml", "unknown command", true},
		{"serve", "open keyway.yml: no such file or directory; name the file with --config", true},
		{
			"serve keyway.yml",
			`keyway serve takes no argument "keyway.yml"; name the configuration file with --config`,
			true,
		},
		{"check --offline --connect", "--offline and --connect exclude each other; give one of them", true},
		{"route", "keyway route needs a key; write keyway route --config FILE KEY [KEY...]", true},
		{"xyzzy", `unknown command "xyzzy"; keyway --help lists the commands`, true},
		{"--version", "keyway ", false},
		{"version", "keyway ", false},
		{"--help", "Available Commands", false},
	} {
		out, err := exec.Command(binary, strings.Fields(tc.args)...).CombinedOutput()
		if (err != nil) != tc.fails || !strings.Contains(string(out), tc.want) {
			t.Errorf("keyway %s: %v\n%s", tc.args, err, out)
		}
	}
}

// TestBindErrors: what to do about an address depends on what is wrong with it.
func TestBindErrors(t *testing.T) {
	t.Parallel()
	binary := redistest.Build(t)
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	for listen, want := range map[string]string{
		"listen: " + used.Addr().String():    "address already in use; end what uses the address",
		"listen: 192.0.2.1:0":                "write an address that this machine has",
		"listen: unix:///nonexistent/x.sock": "make the directory",
		"listen: nonexistent.invalid:0":      "write an IP address, or a name that resolves",

		"listen: 127.0.0.1:0\nadmin: 192.0.2.1:0": "admin: cannot listen on 192.0.2.1:0",

		"listen: 127.0.0.1:0\nthreads: 2\nadmin: " + used.Addr().String(): "end what uses the address",
	} {
		file := redistest.WriteFile(t, "keyway.yml", listen+"\n"+redistest.Ring("127.0.0.1:1"))
		out, err := exec.Command(binary, "serve", "-c", file).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", listen, err, out)
		}
	}
}
