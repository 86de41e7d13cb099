package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestHotKeysLikeRedis: HOTKEYS of Redis 8.6 through keyway has the replies of Redis: the errors, the fields, and for
// the same commands the same bytes for each key, whichever threads and nodes have served them. What Redis measures of
// processor time is missing.
func TestHotKeysLikeRedis(t *testing.T) {
	t.Parallel()
	one, nodes := redistest.Redis8.Start(t), redistest.Three(t)
	k := redistest.Serve(t, "threads: 3\n"+redistest.Layouts(nodes)["ring"]).Ready()
	through, direct := k.Dial(), redistest.Dial(t, one.Addr)
	same := func(lines ...string) {
		t.Helper()
		for _, line := range lines {
			args := strings.Fields(line)
			if got, want := through.Do(args...).String(), direct.Do(args...).String(); got != want {
				t.Errorf("%s\nkeyway: %s\nRedis:  %s", line, got, want)
			}
		}
	}
	same(strings.FieldsFunc(`HOTKEYS;HOTKEYS GET;HOTKEYS GET x;HOTKEYS STOP;HOTKEYS RESET;HOTKEYS FOO;HOTKEYS START
		HOTKEYS START METRICS;HOTKEYS START METRICS 1;HOTKEYS START METRICS 0 NET;HOTKEYS START METRICS x NET
		HOTKEYS START METRICS 3 CPU NET;HOTKEYS START METRICS 2 NET NET;HOTKEYS START METRICS 2 CPU cpu
		HOTKEYS START METRICS 2 NET;HOTKEYS START METRICS 2 NET COUNT 3;HOTKEYS START METRICS 1 NET CPU
		HOTKEYS START METRICS 1 NET COUNT;HOTKEYS START METRICS 1 NET COUNT 65;HOTKEYS START METRICS 1 NET COUNT x
		HOTKEYS START METRICS 1 NET DURATION 0;HOTKEYS START METRICS 1 NET DURATION 1000001
		HOTKEYS START METRICS 1 NET SAMPLE 0;HOTKEYS START METRICS 1 NET SLOTS 1 0;HOTKEYS START METRICS 1 NET MORE 1
		HOTKEYS START metrics 1 net COUNT 4 DURATION 1000;HOTKEYS START METRICS 1 NET;HOTKEYS START
		HOTKEYS RESET;HOTKEYS STOP x`, func(r rune) bool { return r == ';' || r == '\n' })...)
	var others []*redistest.Client
	for range 4 { // on whichever threads
		others = append(others, k.Dial())
	}
	for i := range 60 {
		for _, args := range [][]string{
			{"SET", fmt.Sprint("key:", i%7), strings.Repeat("v", 100+50*(i%7))}, {"GET", fmt.Sprint("key:", i%5)},
			{"MSET", "{m}1", "v", "{m}2", "vv"}, {"PING"}, {"LPUSH", "key:0", "wrong type"},
		} {
			if got, want := others[i%4].Do(args...), direct.Do(args...); got.String() != want.String() {
				t.Errorf("%v: %s, not %s", args, got, want)
			}
		}
	}
	compareSessions(t, through, direct)
	same("HOTKEYS STOP", "HOTKEYS STOP")
	compareSessions(t, through, direct)
	direct.Expect("OK", "SET", "key:1", "after the end")
	through.Expect("OK", "SET", "key:1", "after the end")
	compareSessions(t, others[1], direct)
	through.MustDo("HELLO", "3")
	direct.MustDo("HELLO", "3")
	compareSessions(t, through, direct)
	same("HOTKEYS RESET", "HOTKEYS GET")

	same("HOTKEYS START METRICS 2 CPU NET SAMPLE 2", "HOTKEYS STOP")
	want := slices.DeleteFunc(fieldNames(session(direct)), func(name string) bool {
		return strings.Contains(name, "cpu-time")
	})
	if got := fieldNames(session(through)); !slices.Equal(got, want) {
		t.Errorf("with CPU: %v, not %v", got, want)
	}
	r := through.Do("HOTKEYS", "START", "METRICS", "1", "CPU")
	if !strings.Contains(r.Text, "ERR keyway: processor time is known to the nodes only") {
		t.Errorf("CPU alone: %s", r)
	}
}

// session returns the only element of the reply to HOTKEYS GET, a map.
func session(c *redistest.Client) (of redistest.Reply) {
	if r := c.MustDo("HOTKEYS", "GET"); r.Kind == '*' && len(r.Elems) == 1 {
		of = r.Elems[0]
	}
	return of
}

// fieldNames returns the names of a map.
func fieldNames(r redistest.Reply) (all []string) {
	for i := 0; i < len(r.Elems); i += 2 {
		all = append(all, r.Elems[i].Text)
	}
	return all
}

// compareSessions compares two replies to HOTKEYS GET but for times.
func compareSessions(t *testing.T, through, direct *redistest.Client) {
	t.Helper()
	got, want := session(through), session(direct)
	if got.Kind != want.Kind || len(want.Elems) == 0 || !slices.Equal(fieldNames(got), fieldNames(want)) {
		t.Fatalf("the fields are %v, not %v", fieldNames(got), fieldNames(want))
	}
	of, wanted := pairs(got), pairs(want)
	for _, name := range fieldNames(want) {
		switch name {
		case "all-commands-all-slots-us": // processor time
		case "collection-start-time-unix-ms", "collection-duration-ms":
			if of[name].Int < wanted[name].Int-60_000 || of[name].Int > wanted[name].Int+60_000 {
				t.Errorf("%s is %d, not %d", name, of[name].Int, wanted[name].Int)
			}
		default:
			if of[name].String() != wanted[name].String() {
				t.Errorf("%s is %s, not %s", name, of[name], wanted[name])
			}
		}
	}
}
