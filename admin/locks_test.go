package admin

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/locks"
)

// TestLocksAsJSON: /locks passes the question on and shows the rows as JSON, or why there are none.
func TestLocksAsJSON(t *testing.T) {
	var asked locks.Query
	var failed error
	h := Handler(twoThreads{}, Options{Locks: func(_ context.Context, q locks.Query) ([]locks.Row, error) {
		if asked = q; string(q.Match) == "none" {
			return nil, failed
		}
		return []locks.Row{{Key: "a\"b", State: "held", Lease: -1, Alarms: []string{"lost"}}}, failed
	}})
	get := func(path string) (status int, body string) {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest("GET", path, nil))
		return answer.Code, strings.TrimSpace(answer.Body.String())
	}
	const row = `{"key":"a\"b","state":"held","library":"","kind":"","token":"","client":"","client_name":"",` +
		`"node":"","holders":0,"held_ms":0,"lease_left_ms":-1,"renewals":0,"polling":0,"subscribed":0,"blocked":0,` +
		`"alarms":["lost"]}`
	for _, c := range []struct {
		path   string
		status int
		body   string
		count  int
		match  string
	}{
		{"/locks", 200, `{"locks":[` + row + `]}`, 1000, ""},
		{"/locks?count=5&match=lock:*", 200, `{"locks":[` + row + `]}`, 5, "lock:*"},
		{"/locks?count=99999999", 200, `{"locks":[` + row + `]}`, locks.MaxLocks, ""},
		{"/locks?match=none", 200, `{"locks":[]}`, 1000, "none"},
		{"/locks?count=0", 400, "count must be a number above 0, such as count=100", 0, ""},
		{"/locks?count=x", 400, "count must be a number above 0, such as count=100", 0, ""},
	} {
		asked = locks.Query{}
		status, body := get(c.path)
		if status != c.status || body != c.body || asked.Count != c.count || string(asked.Match) != c.match {
			t.Errorf("%s: %d %s, asked for %+v", c.path, status, body, asked)
		}
	}
	failed = errors.New("no thread answers")
	if status, body := get("/locks"); status != 503 || body != "no thread answers" {
		t.Errorf("%d %s", status, body)
	}
}
