package test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// takeToken gives a keyway a token_file with the first token.
func (r *reloadable) takeToken() {
	r.t.Helper()
	r.tokenFile(0o600, firstToken)
	r.head = fmt.Sprintf("listen: %s\nadmin: {listen: %q, token_file: token}\n", r.listen, r.admin)
	r.reload(r.text)
}

// says requires an answer that contains a text.
func (r *reloadable) says(want string, status int, page string) {
	r.t.Helper()
	if got := r.answers(status, "POST", page, firstToken); !strings.Contains(got, want) {
		r.t.Errorf("%s answers %q, want %q", page, got, want)
	}
}

// TestSteeringByRequests: requests steer a change of the layout as the commands of the same names do, say the same
// texts, need the token, and leave who has sent them in the record of the change and in the events.
func TestSteeringByRequests(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	o := newOperated(t)
	older, newer := o.files()
	orders := []string{"/switch/pause", "/switch/resume", "/switch/rate?keys=7", "/switch/cancel", "/switch/reverse"}
	for _, order := range orders {
		o.k.answers(http.StatusForbidden, "POST", order, firstToken)
	}
	o.k.takeToken()
	for _, order := range orders {
		o.k.answers(http.StatusUnauthorized, "POST", order, "")
		o.k.answers(http.StatusMethodNotAllowed, "GET", order, firstToken)
	}
	o.k.says("no keys are on their way to another layout", http.StatusConflict, "/switch/pause")
	o.k.says("these nodes know of no change of the layout", http.StatusConflict, "/switch/reverse")
	o.k.says("no change is planned\n", http.StatusOK, "/switch/cancel")

	plan := register.Plan{Record: register.Record{Epoch: 1, Old: layoutOf(t, o.older), New: layoutOf(t, o.newer)}}
	if _, err := nodeOf(o.a).Plan(within(t, 20*time.Second), plan); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 20*time.Second, "the planned change is shown", func() bool {
		of := stateAt(t, o.k.admin).Switch
		return of != nil && of.IsPlanned && of.Epoch == 1 && of.From == "ring" && of.To == "modulo"
	})
	o.k.says("the change to epoch 1 has not begun", http.StatusConflict, "/switch/reverse")
	o.k.says("cancelled: the change to epoch 1 does not take place\n", http.StatusOK, "/switch/cancel")

	redistest.Eventually(t, 20*time.Second, "the cancelled change is not shown", func() bool {
		return stateAt(t, o.k.admin).Switch == nil
	})
	o.steer(older, newer)
	o.hasStages()
	if e := eventOf(t, o.k.admin, "operator", "POST /switch/pause", "result=epoch 2: paused", "addr=127.0.0.1:",
		"via=admin"); e == nil || e.Bad {
		t.Errorf("%s", get(t, "http://"+o.k.admin+"/events"))
	}
	if e := eventOf(t, o.k.admin, "operator", "POST /switch/rate", `error=rate "many"`); e == nil || !e.Bad {
		t.Error("no event says that a rate was refused")
	}
	if e := eventOf(t, o.k.admin, "operator", "no valid token or password"); e != nil {
		t.Errorf("strangers make events: %+v", e)
	}
}

// hasStages requires events of each stage of the changes, and of who has planned and steered them.
func (o *operated) hasStages() {
	for _, words := range [][]string{
		{"a change of the layout is planned", "epoch=1"},
		{"this keyway is prepared for a change of the layout", "epoch=1"},
		{"a change of the layout is cancelled", "epoch=1"},
		{"a change of the layout is planned", "epoch=2", "by=", " at "},
		{"clients wait for the layout to change", "epoch=2", "attempt=1", "at_most=1s"},
		{"the layout is being changed", "epoch=2"},
		{"the keys of the change move at another pace", "epoch=2", "pace=paused", "by=127.0.0.1:"},
		{"a change of the layout is planned", "epoch=3", "by=127.0.0.1:"},
		{"the node has sent all keys that move from it", "epoch=3", "node=c"},
		{"the change of the layout is done", "epoch=3"},
	} {
		redistest.Eventually(o.t, 20*time.Second, fmt.Sprintf("an event has %q", words), func() bool {
			return eventOf(o.t, o.k.admin, "switch", words...) != nil
		})
	}
}

// steer begins a change, sets its pace, and takes it back.
func (o *operated) steer(older, newer string) {
	t := o.t
	t.Helper()
	// Nothing reads the keys: those would move at once.
	if out, status := keyway(t, "switch", "--rate", "1", older, newer); status != 0 {
		t.Fatal(out)
	}
	o.k.says("epoch 2: paused; keyway resume goes on: at most 1 keys/s", http.StatusOK, "/switch/pause")
	o.k.says(`rate "many": write a number`, http.StatusBadRequest, "/switch/rate?keys=many")
	o.k.says("epoch 2: paused; keyway resume goes on: at most 5 keys/s", http.StatusOK, "/switch/rate?keys=5")
	if out, _ := keyway(t, "status", "--json", "-c", newer); !strings.Contains(out, `"by":"127.0.0.1:`) {
		t.Errorf("the nodes do not say who has set the pace: %s", out)
	}
	redistest.Eventually(t, 20*time.Second, "the overview has the pace, and who has set it", func() bool {
		of := stateAt(t, o.k.admin).Switch
		return of != nil && !of.IsPlanned && of.Paused && strings.Contains(of.Pace, "at most 5 keys/s") &&
			strings.HasPrefix(of.PaceBy, "127.0.0.1:")
	})
	o.k.says("the change to epoch 2 has begun; keyway reverse takes it back", http.StatusConflict, "/switch/cancel")
	o.k.says("epoch 2: at most 5 keys/s", http.StatusOK, "/switch/resume")
	o.k.says("taking the change of the layout back, to ring of a, b", http.StatusOK, "/switch/reverse")
	redistest.Eventually(t, 20*time.Second, "all keys are back", func() bool {
		_, status := keyway(t, "verify", "-c", older)
		return status == 0 && len(o.c.Keys()) == 0
	})
}

// TestPauseByRequest: a request makes clients wait as CLIENT PAUSE does, and another one ends that.
func TestPauseByRequest(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr), "threads: 2\n")
	r.answers(http.StatusForbidden, "POST", "/clients/pause?for=1s&mode=all", "")
	r.takeToken()
	r.answers(http.StatusUnauthorized, "POST", "/clients/pause?for=1s&mode=all", "")
	r.says("for: write a duration up to 1h0m0s", http.StatusBadRequest, "/clients/pause?for=2h&mode=all")
	r.says("mode: write write or all", http.StatusBadRequest, "/clients/pause?for=1h")
	var all []*redistest.Client
	for range 8 { // on both threads
		all = append(all, redistest.Dial(t, r.listen))
	}
	r.says("commands of clients that may write wait for 1h0m0s\n", http.StatusOK, "/clients/pause?for=1h&mode=write")
	for i, c := range all {
		if reply := c.Do("GET", "a"); reply.Text != "" {
			t.Errorf("GET: %s", reply.Text)
		}
		c.Send("SET", fmt.Sprint("key:", i), "x")
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	other := redistest.Dial(t, r.listen)
	isPaused := func() bool {
		return slices.ContainsFunc(stateAt(t, r.admin).Problems, func(p overview.Problem) bool {
			return strings.HasPrefix(p.Text, "commands of clients wait, since somebody has paused them: ")
		})
	}
	redistest.Eventually(t, 10*time.Second, "the overview says that clients wait", isPaused)
	for i := range all {
		if got := other.Do("EXISTS", fmt.Sprint("key:", i)); got.Int != 0 {
			t.Error("a client writes although all of them wait")
		}
	}
	r.says("clients go on\n", http.StatusOK, "/clients/unpause")
	for _, c := range all {
		if reply, err := c.Receive(); err != nil || reply.Text != "OK" {
			t.Errorf("SET: %s, %v", reply.Text, err)
		}
	}
	redistest.Eventually(t, 10*time.Second, "the overview says that clients go on", func() bool { return !isPaused() })
	if eventOf(t, r.admin, "operator", "POST /clients/pause", "result=commands of clients that may write wait") == nil {
		t.Errorf("%s", get(t, "http://"+r.admin+"/events"))
	}
}

// TestWhoKilledAClient: the events say which client was closed, and by whom, whether by a request or a command.
func TestWhoKilledAClient(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr), "")
	r.takeToken()
	first, second, by := redistest.Dial(t, r.listen), redistest.Dial(t, r.listen), redistest.Dial(t, r.listen)
	id := first.Do("CLIENT", "ID").Int
	r.says("closed id=", http.StatusOK, fmt.Sprintf("/clients/kill?id=%d", id))
	by.MustDo("CLIENT", "KILL", "ID", fmt.Sprint(second.Do("CLIENT", "ID").Int))
	for _, words := range [][]string{
		{"POST /clients/kill", fmt.Sprintf("result=closed id=%d addr=", id), "addr=127.0.0.1:", "via=admin"},
		{"CLIENT KILL ID ", "result=closed 1 clients", "user=default", "addr=127.0.0.1:", "via=client"},
	} {
		redistest.Eventually(t, 10*time.Second, fmt.Sprintf("an event has %q", words), func() bool {
			return eventOf(t, r.admin, "operator", words...) != nil
		})
	}
	for range 3 {
		by.MustDo("FLUSHALL")
	}
	by.MustDo("PING")
	if e := eventOf(t, r.admin, "operator", "FLUSHALL"); e != nil {
		t.Errorf("what programs do often is an event: %+v", e)
	}
}
