package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

const (
	tokenA = "0123456789abcdef"
	tokenB = "fedcba9876543210"
)

// actor asks a handler whose pages note what they do.
type actor struct {
	t      *testing.T
	tokens []string
	done   string
}

func (a *actor) options() Options {
	return Options{
		Who:     Who{Tokens: func() []string { return a.tokens }},
		Reload:  func(context.Context, bool) (string, error) { a.done += "reload "; return "", nil },
		Upgrade: func() (string, error) { a.done += "upgrade "; return "", nil },
		LogLevel: &LogLevel{
			Get: func() string { return "info" },
			Set: func(level string) (string, error) { a.done += "level=" + level + " "; return "", nil },
		},
		Acts: Acts{
			Kill: func(context.Context, uint64) (string, error) { a.done += "kill "; return "", nil },
			PauseClients: func(context.Context, time.Duration, bool) error {
				a.done += "pause "
				return nil
			},
			Steering: steering{a},
		},
	}
}

// steering notes what it does.
type steering struct{ a *actor }

func (s steering) note(what string) (string, error) { s.a.done += what; return "", nil }

func (s steering) Pause(context.Context, string) (string, error)       { return s.note("pause ") }
func (s steering) Resume(context.Context, string) (string, error)      { return s.note("resume ") }
func (s steering) Rate(_ context.Context, _, _ string) (string, error) { return s.note("rate ") }
func (s steering) Cancel(context.Context, string) (string, error)      { return s.note("cancel ") }
func (s steering) Reverse(_ context.Context, _ string) (string, error) { return s.note("reverse ") }

// ask returns the status that a page answers.
func (a *actor) ask(method, page, header string) int {
	a.t.Helper()
	a.done = ""
	r := httptest.NewRequest(method, page, nil)
	if header != "" {
		r.Header.Set("Authorization", header)
	}
	w := httptest.NewRecorder()
	Handler(twoThreads{}, a.options()).ServeHTTP(w, r)
	if needs := w.Code == http.StatusUnauthorized; needs != (w.Header().Get("WWW-Authenticate") != "") {
		a.t.Errorf("%s %s: %d with %v", method, page, w.Code, w.Header())
	}
	return w.Code
}

// TestPagesThatAct: what acts needs one of the tokens, if there are any. Without tokens, what keyway has always done
// for who reaches the address goes on, and the rest is refused. Reading needs none.
func TestPagesThatAct(t *testing.T) {
	a := &actor{t: t}
	acts := []struct {
		method, page string
		without      int // the status if there are no tokens
	}{
		{"POST", "/reload", 200}, {"POST", "/upgrade", 200}, {"POST", "/log-level?level=debug", 403},
		{"GET", "/debug/pprof/", 403}, {"GET", "/debug/pprof/heap", 403}, {"GET", "/debug/pprof/cmdline", 403},
		{"POST", "/clients/kill?id=1", 403}, {"POST", "/clients/pause?for=1s&mode=all", 403},
		{"POST", "/clients/unpause", 403}, {"POST", SwitchPause, 403}, {"POST", SwitchResume, 403},
		{"POST", SwitchRate + "?keys=1", 403}, {"POST", SwitchCancel, 403}, {"POST", SwitchReverse, 403},
	}
	headers := map[string]string{ // and the token in them, in the right form
		"": "", "Bearer " + tokenA: tokenA, "bearer  " + tokenB + " ": tokenB, "Basic " + tokenA: "", tokenA: "",
		"Bearer ": "", "Bearer": "", "Bearer " + tokenA[:15]: "", "Bearer " + tokenA + "0": "",
	}
	for _, a.tokens = range [][]string{nil, {tokenA}, {tokenA, tokenB}} {
		for _, page := range []string{"/metrics", "/healthz", "/log-level"} {
			if got := a.ask("GET", page, ""); got != http.StatusOK {
				t.Errorf("tokens %q: GET %s: %d", a.tokens, page, got)
			}
		}
		for _, of := range acts {
			for header, token := range headers {
				want := http.StatusUnauthorized
				switch {
				case a.tokens == nil:
					want = of.without
				case slices.Contains(a.tokens, token):
					want = http.StatusOK
				}
				got := a.ask(of.method, of.page, header)
				if got != want || (a.done != "") != (want == http.StatusOK && of.method == "POST") {
					t.Errorf("tokens %q: %s %s with %q: %d, want %d; done: %s",
						a.tokens, of.method, of.page, header, got, want, a.done)
				}
			}
		}
	}
}

// TestPagesThatActForBrowsers: a page of another site cannot act, whatever it knows.
func TestPagesThatActForBrowsers(t *testing.T) {
	o := Options{
		Who:    Who{Tokens: func() []string { return []string{tokenA} }},
		Reload: func(context.Context, bool) (string, error) { t.Error("reloaded"); return "", nil },
	}
	r := httptest.NewRequest("POST", "http://127.0.0.1:9380/reload", nil)
	r.Header.Set("Authorization", "Bearer "+tokenA)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	Handler(twoThreads{}, o).ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
