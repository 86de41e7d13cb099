package admin

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/hotkeys"
)

// TestKeysAsJSON: /hotkeys and /bigkeys pass the question on and show the rows as JSON, or why there are none.
func TestKeysAsJSON(t *testing.T) {
	asked, by := 0, hotkeys.By(99)
	var failed error
	who := hotkeys.Client{ID: 7, Addr: "127.0.0.1:7", Name: "batch"}
	h := Handler(twoThreads{}, Options{Keys: Keys{
		HotKeys: func(_ context.Context, order hotkeys.By, count int) ([]hotkeys.Row, error) {
			asked, by = count, order
			return []hotkeys.Row{{Key: "k\xff", DB: 1, Node: "a", Reads: 1.5, Writes: 2, Bytes: 30, Share: 0.25,
				ByBytes: 0.5, ByClient: 1, Client: who}}, failed
		},
		BigKeys: func(_ context.Context, count int) ([]bigkeys.Row, error) {
			asked = count
			return []bigkeys.Row{{Key: "k", Node: "a", Bytes: 5, Kind: bigkeys.Reply, Command: "GET", Client: who,
				Time: time.Unix(0, 0).UTC(), Times: 3}}, failed
		},
	}})
	get := func(path string) (status int, body string) {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest("GET", path, nil))
		return answer.Code, strings.TrimSpace(answer.Body.String())
	}
	const client = `"client_id":7,"client":"127.0.0.1:7","client_name":"batch"`
	const hot = `{"hotkeys":[{"key":"\"k\\xff\"","db":1,"node":"a","reads_per_second":1.5,"writes_per_second":2,` +
		`"bytes_per_second":30,"share":0.25,"share_of_bytes":0.5,"share_of_client":1,` + client + `}]}`
	const big = `{"bigkeys":[{"key":"k","db":0,"node":"a","bytes":5,"kind":"reply","command":"GET",` + client +
		`,"time":"1970-01-01T00:00:00Z","times":3}]}`
	const badCount = "count must be a number above 0, such as count=100"
	const badBy = "by must be commands, reads, writes or bytes"
	for _, c := range []struct {
		path   string
		status int
		body   string
		count  int
		by     hotkeys.By
	}{
		{"/hotkeys", 200, hot, 100, hotkeys.ByCommands}, {"/hotkeys?count=5&by=writes", 200, hot, 5, hotkeys.ByWrites},
		{"/hotkeys?count=99999", 200, hot, hotkeys.MaxRows, hotkeys.ByCommands},
		{"/hotkeys?count=0", 400, badCount, 0, 99}, {"/hotkeys?by=size", 400, badBy, 0, 99},
		{"/bigkeys", 200, big, 100, 99}, {"/bigkeys?count=3", 200, big, 3, 99},
		{"/bigkeys?count=x", 400, badCount, 0, 99},
	} {
		asked, by = 0, 99
		if status, body := get(c.path); status != c.status || body != c.body || asked != c.count || by != c.by {
			t.Errorf("%s: %d %s, asked for %d by %d", c.path, status, body, asked, by)
		}
	}
	failed = errors.New("no thread answers")
	for _, path := range []string{"/hotkeys", "/bigkeys"} {
		if status, body := get(path); status != 503 || body != "no thread answers" {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}
