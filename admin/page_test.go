package admin

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/page"
)

// TestPages: / is the page of a pool, or a list of the pools to choose from.
func TestPages(t *testing.T) {
	of := func(name string) Pool {
		state := func() overview.State { return overview.State{Pool: name, Instance: "kw-" + name} }
		return Pool{Name: name, Backend: twoThreads{}, Options: Options{Page: page.New(page.Source{State: state})}}
	}
	for _, c := range []struct {
		pools []Pool
		path  string
		code  int
		text  string
	}{
		{[]Pool{of("")}, "/", 200, "kw-"}, {[]Pool{of("a"), of("b")}, "/", 200, `<a href="?pool=b">`},
		{[]Pool{of("a"), of("b")}, "/?pool=b", 200, "kw-b"}, {[]Pool{of("a"), of("b")}, "/?pool=c", 400,
			"keyway serves a, b"},
		{[]Pool{of("a")}, "/", 200, "kw-a"}, {[]Pool{{Backend: twoThreads{}}}, "/", 404, ""},
		{[]Pool{of("a"), of("b")}, "/live", 400, "add pool=NAME"}, {[]Pool{of("")}, "/page.css", 200, ":root"},
		{[]Pool{of("")}, "/nothing", 404, ""},
	} {
		answer := httptest.NewRecorder()
		h := PoolsHandler(func() []Pool { return c.pools }, Options{})
		h.ServeHTTP(answer, httptest.NewRequest("GET", c.path, nil))
		if answer.Code != c.code || !strings.Contains(answer.Body.String(), c.text) {
			t.Errorf("%d pools, %s: %d %s", len(c.pools), c.path, answer.Code, answer.Body)
		}
	}
}

// TestNamesOfOthers: a loopback address answers only to names that are its own, so that no page of another site can
// read it under a name which points here. Other addresses, probes and collectors ask under any name.
func TestNamesOfOthers(t *testing.T) {
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	h := Handler(twoThreads{}, Options{Placement: func() Placement { return Placement{} }})
	for _, c := range []struct {
		local, host, path string
		code              int
	}{
		{"127.0.0.1:9380", "evil.example:9380", "/placement", 421}, {"127.0.0.1:9380", "127.0.0.1.evil.example",
			"/placement", 421},
		{"[::1]:9380", "evil.example", "/placement", 421}, {"127.0.0.1:9380", "localhost.evil.example", "/placement",
			421},
		{"127.0.0.1:9380", "evil.example", "/", 421}, {"127.0.0.1:9380", "evil.example.", "/reload", 421},
		{"127.0.0.1:9380", "127.0.0.1:9380", "/placement", 200}, {"127.0.0.1:9380", "localhost:19380", "/placement",
			200},
		{"[::1]:9380", "[::1]:9380", "/placement", 200}, {"[::1]:9380", "[::1]", "/placement", 200},
		{"127.0.0.1:9380", machine + ":9380", "/placement", 200}, {"127.0.0.1:9380", "keyway:9380", "/placement", 200},
		{"127.0.0.1:9380", "kw.localhost", "/placement", 200}, {"127.0.0.1:9380", "10.0.0.4:80", "/placement", 200},
		{"127.0.0.1:9380", "kw.corp.internal", "/placement", 200}, {"127.0.0.1:9380", "evil.example", "/healthz", 200},
		{"127.0.0.1:9380", "evil.example", "/metrics", 200}, {"10.0.0.4:9380", "keyway.shop.svc.cluster.local",
			"/placement", 200},
	} {
		addr, err := net.ResolveTCPAddr("tcp", c.local)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", c.path, nil)
		r.Host = c.host
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, addr)))
		if answer.Code != c.code {
			t.Errorf("%s at %s as %s: %d, want %d", c.path, c.local, c.host, answer.Code, c.code)
		}
		if answer.Code == 421 && !strings.Contains(answer.Body.String(), "use its IP address, localhost") {
			t.Errorf("it does not say what to do: %s", answer.Body)
		}
	}
}

// TestNamesInHosts: names that the machine's owner has written into the file hosts are the machine's own.
func TestNamesInHosts(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.1.1 Kw.Example.com kw # a.example.com\n\n::1 b.example.com\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"kw.example.com": true, "KW.example.com:9380": true, "b.example.com": true,
		"a.example.com": false, "example.com": false, "x.kw.example.com": false} {
		if isOwnName(host, "machine", hosts) != want {
			t.Errorf("%s is a name of the machine: %v", host, !want)
		}
	}
	if isOwnName("kw.example.com", "machine", hosts+"x") {
		t.Error("without a file the name is one of the machine")
	}
}
