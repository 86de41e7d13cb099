package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// waitingLine has fields of a line of the access log.
type waitingLine struct {
	Command string
	Node    string
	AtNodes int64 `json:"node_us"`
	Out     int   `json:"bytes_out"`
	Left    bool  `json:"client_left"`
	Tries   []struct{ Node, Error string }
}

// lineOf waits until the access log has a command.
func (r *reloadable) lineOf(command string) (found waitingLine) {
	r.t.Helper()
	redistest.Eventually(r.t, 30*time.Second, "the log has "+command, func() bool {
		text, _ := os.ReadFile(filepath.Join(r.dir, "access.json"))
		for one := range strings.Lines(string(text)) {
			found = waitingLine{}
			if json.Unmarshal([]byte(one), &found) == nil && found.Command == command {
				return true
			}
		}
		return false
	})
	return found
}

// TestAccessLogOfCommandsThatWait: the line of a blocked client that leaves names its node, that of HELLO 3 has the
// size of the reply, and a command that was split has a try for each node.
func TestAccessLogOfCommandsThatWait(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	r := startReloadable(t, "", redistest.Layouts(nodes)["slots"]+"access_log: {file: access.json, one_in: 1}\n")
	c := redistest.Dial(t, r.listen)
	if reply := c.Do("HELLO", "3"); reply.Kind != '%' {
		t.Fatal(reply)
	}
	if l := r.lineOf("HELLO"); l.Out < 100 {
		t.Errorf("%+v", l)
	}
	split := []string{"MGET"}
	for i := range 60 {
		split = append(split, fmt.Sprint("key:", i))
	}
	c.Do(split...)
	seen := map[string]bool{}
	l := r.lineOf("MGET")
	for _, try := range l.Tries {
		seen[try.Node] = true
	}
	if len(l.Tries) != 3 || len(seen) != 3 {
		t.Errorf("%+v", l)
	}
	began := time.Now()
	c.Send("BLPOP", "key:1", "0")
	c.Flush()
	redistest.Eventually(t, 10*time.Second, "a node has the client", func() bool {
		return slices.ContainsFunc(nodes, func(n *redistest.Node) bool {
			return strings.Contains(n.Do("INFO", "clients").Text, "blocked_clients:1")
		})
	})
	c.Close()
	l = r.lineOf("BLPOP")
	if !l.Left || l.Node == "" || l.AtNodes <= 0 || l.AtNodes > time.Since(began).Microseconds() {
		t.Errorf("%+v", l)
	}
}
