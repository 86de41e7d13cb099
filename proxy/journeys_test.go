package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/journey"
)

// recordsAll returns options by which every command is recorded for the access log, with its key.
func recordsAll() Options {
	all := journey.Settings{Lines: journey.Choice{OneIn: 1}, Text: true}
	return Options{Recording: Recording{Journeys: all}}
}

// recordsSlow returns options by which only slow commands are recorded, for traces.
func recordsSlow() Options {
	return Options{Recording: Recording{
		SlowLog:  SlowLog{SlowerThan: 50 * time.Millisecond},
		Journeys: journey.Settings{Traces: journey.Choice{Slow: true}, Text: true},
	}}
}

// followed returns what was recorded since the last call, in a line for each command.
func (r *rig) followed() string {
	var all []string
	for _, j := range r.w.Ready.Followed.Journeys {
		text := fmt.Sprintf("%s %q", j.Command, j.Key.Text())
		for _, a := range j.Attempts() {
			text += fmt.Sprintf(" %s+%d%s", a.Node, time.Duration(a.Ended-a.Written).Milliseconds(), a.Result)
		}
		all = append(all, strings.TrimSpace(text+" "+j.Error))
	}
	r.w.Taken()
	return strings.Join(all, "\n")
}

func (r *rig) hasFollowed(want ...string) {
	r.t.Helper()
	if got := r.followed(); got != strings.Join(want, "\n") {
		r.t.Errorf("recorded:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

// TestEveryCommandIsRecordedOnce: with one in one there is a journey for each command, whoever answers it, and in
// none is an argument but the key.
func TestEveryCommandIsRecordedOnce(t *testing.T) {
	r := newRig(t, recordsAll())
	r.followed()
	r.feed(cmd("PING") + cmd("GET", onA) + cmd("SET", onB, "secret") + cmd("MGET", onA, onB))
	r.sent(0)
	r.sent(1)
	r.pass(3 * time.Millisecond)
	r.node(0, "$1\r\nx\r\n*1\r\n$1\r\nx\r\n")
	r.node(1, "-WRONGTYPE x\r\n*1\r\n$1\r\ny\r\n")
	r.hasFollowed(`PING ""`, `GET "b" a+10`, `SET "a" b+10WRONGTYPE WRONGTYPE`, `MGET "b" a+10 b+10`)
	r.feed(cmd("AUTH", "secret") + cmd("HELLO", "2", "AUTH", "secret", "secret") + cmd("GET"))
	r.feed(cmd("SUBSCRIBE", "secret") + cmd("secret|command", "secret"))
	r.feed(cmd("UNSUBSCRIBE") + cmd("MULTI") + cmd("SET", onA, "secret") + cmd("DISCARD") +
		cmd("CONFIG", "SET", "a", "secret"))
	text := r.followed()
	if strings.Contains(text, "secret") || strings.Contains(text, "SECRET") {
		t.Errorf("too much is recorded:\n%s", text)
	}
	var names []string
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, `"`)
		names = append(names, strings.TrimSpace(name))
	}
	want := []string{
		"", "AUTH", "CONFIG SET", "DISCARD", "GET", "HELLO", "MULTI", "SET", "SUBSCRIBE", "UNSUBSCRIBE",
	}
	slices.Sort(names) // some wait for others
	if !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

// TestClientsThatLeaveAreRecorded: a command whose client has left is recorded when its node has answered.
func TestClientsThatLeaveAreRecorded(t *testing.T) {
	r := newRig(t, recordsAll())
	r.followed()
	r.feed(cmd("GET", onA))
	r.sent(0)
	r.w.Gone(r.s)
	r.hasFollowed()
	r.node(0, "$1\r\nx\r\n")
	all := r.w.Ready.Followed.Journeys
	if len(all) != 1 || !all[0].IsCut || all[0].Command != "GET" || all[0].Client != "peer:1" {
		t.Errorf("%+v", all)
	}
	r.hasFollowed(`GET "b" a+0`)
}

// TestHandshakesThatLeaveAreRecorded: HELLO 3 waits for a node. If the client leaves meanwhile, it is recorded once.
func TestHandshakesThatLeaveAreRecorded(t *testing.T) {
	r := newRig(t, recordsAll())
	r.followed()
	r.feed(cmd("HELLO", "3"))
	r.pass(20 * time.Millisecond)
	r.hasFollowed()
	r.w.Gone(r.s)
	all := r.w.Ready.Followed.Journeys
	if len(all) != 1 || all[0].Command != "HELLO" || all[0].Duration() < 20*time.Millisecond || !all[0].IsCut {
		t.Errorf("%+v", all)
	}
}

// TestSlowCommandsAreRecorded: a slow command is recorded though no sampler has chosen it, and a redirect that came
// before it was slow is in its journey. What is fast is not recorded, redirected or not.
func TestSlowCommandsAreRecorded(t *testing.T) {
	r := newClusterRig(t, recordsSlow())
	get := func(wait time.Duration) {
		r.feed(cmd("GET", onA))
		r.sent(0)
		r.pass(10 * time.Millisecond)
		r.node(0, "-MOVED 3300 10.0.0.2:1\r\n")
		r.sent(1)
		r.pass(wait)
		r.node(1, "$1\r\nx\r\n")
	}
	get(20 * time.Millisecond)
	r.hasFollowed()
	r.w.SetTable(clusterTable(t))
	get(60 * time.Millisecond)
	j := r.w.Ready.Followed.Journeys
	if len(j) != 1 || !j[0].IsSlow || j[0].For != journey.ForTrace || j[0].Trace == [16]byte{} {
		t.Fatalf("%+v", j)
	}
	if d := j[0].Duration(); d != 70*time.Millisecond {
		t.Errorf("it took %v", d)
	}
	r.hasFollowed(`GET "b" 10.0.0.1:1+10MOVED 10.0.0.2:1+60`)
	r.feed(cmd("BLPOP", onA, "1")) // waits because it is asked to
	r.pass(100 * time.Millisecond)
	r.hasFollowed()
}

// TestLostConnectionsAreRecorded: the attempts of a read whose connections end are in its journey.
func TestLostConnectionsAreRecorded(t *testing.T) {
	r := newRig(t, recordsAll())
	r.followed()
	r.feed(cmd("SET", onA, "1"))
	r.sent(0)
	r.pass(20 * time.Millisecond)
	r.shared(0).Fail(r.now, "reset")
	r.hasFollowed(`SET "b" a+20lost ERR`)
}

// TestJourneysAreBounded: what is recorded of one turn is bounded, and the rest is counted.
func TestJourneysAreBounded(t *testing.T) {
	r := newRig(t, recordsAll())
	r.w.Taken()
	r.w.Received(r.s, []byte(strings.Repeat(cmd("PING"), 3000)))
	b := &r.w.Ready.Followed
	if n := len(b.Journeys); n != 1024 || b.LostLines != 3000-n || b.LostTraces != 0 {
		t.Errorf("%d are recorded, %d are lost", n, b.LostLines)
	}
}

// TestRecordingAllocatesNothing: no command allocates, whether it is recorded or not.
func TestRecordingAllocatesNothing(t *testing.T) {
	for _, oneIn := range []int{1, 1000} {
		both := journey.Choice{OneIn: oneIn, Slow: true}
		o := Options{Recording: Recording{
			Journeys: journey.Settings{Traces: both, Lines: both, Text: true, Hash: true},
		}}
		allocatesNothing(t, newRig(t, o), 0)
	}
}

// BenchmarkPipeline16Recorded is BenchmarkPipeline16 with traces and an access log of one command in 1000.
func BenchmarkPipeline16Recorded(b *testing.B) {
	both := journey.Choice{OneIn: 1000, Slow: true}
	benchmarkPipeline(b, Options{Recording: Recording{Journeys: journey.Settings{Traces: both, Lines: both}}})
}

// BenchmarkPipeline16RecordedAll is BenchmarkPipeline16 with an access log of all commands.
func BenchmarkPipeline16RecordedAll(b *testing.B) { benchmarkPipeline(b, recordsAll()) }
