package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestWaitingIsNotSlow: the time that clients wait in a blocking command or in WAIT, because they want to, is in no
// figures of latency and not in the slow log, as in Redis; the commands are counted. A command that can block and does
// not ask for it has figures.
func TestWaitingIsNotSlow(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	adminAddr := freeAddr(t)
	k := redistest.ServeProcess(t, "admin: "+adminAddr+"\nthreads: 2\nslowlog: {slower_than: 1us}\n"+
		redistest.Layouts(nodes)["ring"])
	c, pusher := redistest.Dial(t, k.Addr), redistest.Dial(t, k.Addr)
	c.Send("BLPOP", "list", "0")
	c.Flush()
	redistest.Eventually(t, 20*time.Second, "the client is blocked", func() bool {
		return infoField(t, pusher, "clients", "blocked_clients") == 1
	})
	pusher.MustDo("LPUSH", "list", "v", "w")
	if r, err := c.Receive(); err != nil || r.String() != "[list w]" {
		t.Fatal(r, err)
	}
	c.Expect("[list v]", "BRPOP", "list", "1") // at once
	c.Expect("(nil)", "BZPOPMIN", "nothing", "0.05")
	c.Expect("(nil)", "XREAD", "BLOCK", "50", "STREAMS", "stream", "$")
	c.Expect("(nil)", "XREAD", "STREAMS", "stream", "0")
	c.Expect("OK", "SET", "k", "v")
	c.Expect("0", "WAIT", "1", "50")

	_, text := fetch(t, "http://"+adminAddr+"/metrics")
	for name, want := range map[string]string{
		"keyway_commands_total{command=\"%s\"}":                  "blpop 1 brpop 1 bzpopmin 1 xread 2 wait 1 lpush 1",
		"keyway_commands_duration_seconds_count{command=\"%s\"}": "blpop - brpop - bzpopmin - xread 1 wait - lpush 1",
		"keyway_command_duration_seconds_count{family=\"%s\"}":   "list 1 stream 1 sorted_set -",
	} {
		var got []string
		for of := range strings.SplitSeq(want, " ") {
			if of == "-" || of[0] <= '9' {
				continue
			}
			_, line, has := strings.Cut(text, "\n"+fmt.Sprintf(name, of)+" ")
			value, _, _ := strings.Cut(line, "\n")
			if !has {
				value = "-"
			}
			got = append(got, of, value)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", name, strings.Join(got, " "), want)
		}
	}
	c.MustDo("HELLO", "3")
	histograms := fieldNames(c.MustDo("LATENCY", "HISTOGRAM", "blpop", "brpop", "bzpopmin", "wait", "xread", "lpush"))
	if fmt.Sprint(histograms) != "[lpush xread]" && fmt.Sprint(histograms) != "[xread lpush]" {
		t.Errorf("LATENCY HISTOGRAM has %v", histograms)
	}
	if slow := fmt.Sprint(slowOf(c)); slow != "[[LPUSH list v w] [SET k v] [XREAD STREAMS stream 0]]" {
		t.Errorf("SLOWLOG has %v", slow)
	}
}

// slowOf returns the commands in the slow log, sorted: those of one second have the order of their threads. It leaves
// out what tests send while they wait, as often as the machine needs.
func slowOf(c *redistest.Client) (slow []string) {
	for _, e := range c.MustDo("SLOWLOG", "GET", "-1").Elems {
		if args := e.Elems[3].String(); args != "[EXISTS nothing]" && args != "[INFO clients]" {
			slow = append(slow, args)
		}
	}
	slices.Sort(slow)
	return slow
}
