package test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// asking is something for which threads send each other messages.
type asking struct {
	what     string
	messages float64 // to each other thread, or to each thread if it is not of a thread
	rate     float64 // of docs/scale.md, in a second: of the clients of each thread, or else of the process
	ofThread bool
	do       func(c *redistest.Client, i int) // nil: not counted here
}

var askings = []asking{
	{"CLIENT LIST, CLIENT KILL or INFO of a client", 2, 1, true, func(c *redistest.Client, i int) {
		c.Do([][]string{{"CLIENT", "LIST"}, {"INFO"}}[i%2]...)
	}},
	{"SUBSCRIBE and UNSUBSCRIBE of a channel", 6, 10, true, func(c *redistest.Client, i int) {
		channel := fmt.Sprint("channel:", i)
		for _, command := range []string{"SUBSCRIBE", "UNSUBSCRIBE"} {
			c.Send(command, channel)
			c.Flush()
			c.Receive()
		}
	}},
	{"a script that no client of keyway has used", 1, 1, true, func(c *redistest.Client, i int) {
		c.Do("EVAL", fmt.Sprint("return ", i), "1", "key")
	}},
	{"a new topology, as while a Redis Cluster moves slots", 1, 2, false, nil},
	{"the figures of the page and of `/overview`", 1, 1, false, nil},
	{"`/metrics`, here for one Prometheus", 3, 1. / 15, false, nil},
}

// messageCost is the processor time of a message for both threads, in seconds: go test ./loop -bench Post/busy
const messageCost = 1e-6

// TestWhatThreadsAskEachOther: what concerns all clients takes a fixed number of messages to each other thread, with
// few threads and with many; and docs/scale.md says what they cost together.
func TestWhatThreadsAskEachOther(t *testing.T) {
	t.Parallel()
	const times = 10
	nodes := redistest.Three(t)
	for _, threads := range []float64{2, 32} {
		adminAddr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
		k := redistest.ServeProcess(t, fmt.Sprintf("threads: %.0f\nadmin: %s\nlayout: ring\n", threads, adminAddr)+
			redistest.NodesYAML(nodes))
		c := redistest.Dial(t, k.Addr)
		for _, a := range askings {
			if a.do == nil {
				continue
			}
			began, before := time.Now(), messagesBetweenThreads(t, adminAddr)
			for i := range times {
				a.do(c, i)
			}
			// A thread counts messages when its turn ends, perhaps only after it has told this count.
			got, want, fetches := 0., times*a.messages*(threads-1), 0.
			redistest.Eventually(t, 20*time.Second, "messages for "+a.what, func() bool {
				got = messagesBetweenThreads(t, adminAddr) - before
				fetches++
				return got >= want
			})
			// The figures of each second, what /metrics asks, and what was not counted before.
			if besides := threads * (3*fetches + 3 + time.Since(began).Seconds()); got > want+besides {
				t.Errorf("%.0f threads: %d times %s took %.0f messages, want %.0f", threads, times, a.what, got, want)
			}
		}
		c.Close()
		k.Kill()
	}
	page, err := os.ReadFile("../docs/scale.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range askingRows() {
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/scale.md lacks %q", row)
		}
	}
}

// askingRows returns the rows of the page's table: which share of a thread's time messages take.
func askingRows() (rows []string) {
	counts := []float64{1, 4, 16, 64}
	sums := make([]float64, len(counts))
	row := func(what string, messages, rate string, shares []float64) {
		text := fmt.Sprintf("| %s | %s | %s |", what, messages, rate)
		for _, share := range shares {
			text += " " + figure(100*share) + " % |"
		}
		rows = append(rows, text)
	}
	for _, a := range askings {
		var shares []float64
		for i, threads := range counts {
			others := 1. // threads that have this thread do something
			if a.ofThread {
				others = threads - 1
			}
			shares = append(shares, others*a.rate*a.messages*messageCost)
			sums[i] += shares[i]
		}
		rate := figure(a.rate)
		if a.ofThread {
			rate += " by each thread's clients"
		}
		row(a.what, figure(a.messages), rate, shares)
	}
	row("all", "", "", sums)
	return rows
}
