package test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestLossesAreProblems: that clients are refused, and that records cannot be written, stands among the problems.
func TestLossesAreProblems(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "records")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	k := redistest.ServeProcess(t, fmt.Sprintf("admin: %s\nclients: {max: 2}\naccess_log: {file: %s, one_in: 1}\n"+
		"audit: {file: %s}\ntraces: {endpoint: 'http://127.0.0.1:%d', one_in: 1}\n", at, filepath.Join(dir, "access"),
		filepath.Join(dir, "audit"), redistest.FreePort(t))+redistest.Ring(redistest.Start(t).Addr))
	c := redistest.Dial(t, k.Addr)
	c.Expect("OK", "SET", "k", "v")
	if got := stateAt(t, at).Problems; len(got) > 0 {
		t.Errorf("before, there are problems: %v", got)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	redistest.Dial(t, k.Addr) // the last client that is let in
	for _, text := range []string{
		"new clients are refused, because clients.max is reached", "the access log cannot be written",
		"what operators do cannot be written to audit.file", "traces cannot be sent",
	} {
		redistest.Eventually(t, time.Minute, text, func() bool {
			redistest.Ask(k.Addr, "PING")
			c.Expect("v", "GET", "k")
			if r, err := http.Post("http://"+at+"/reload", "", nil); err == nil { // a deed
				r.Body.Close()
			}
			return slices.ContainsFunc(stateAt(t, at).Problems, func(p overview.Problem) bool { return p.Text == text })
		})
	}
}
