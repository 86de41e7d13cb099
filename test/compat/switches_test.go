package compat

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestCompatThroughSwitches runs clients while the layout changes there and back, again and again:
// job queues, each of whose jobs is done once, caches, and locks of Redisson that are
// renewed and that nobody else gets. The long form runs every client.
func TestCompatThroughSwitches(t *testing.T) {
	if *clients == "" || *target == "redis" {
		t.Skip("make compat runs the clients of other languages")
	}
	ring := "layout: ring\nhash_tag: \"{}\"\n" + redistest.NodesYAML(redistest.Three(t))
	slots := "layout: slots\nslots: {static: {d: 0-5460, e: 5461-10922, f: 10923-16383}}\n" +
		strings.NewReplacer("name: a", "name: d", "name: b", "name: e", "name: c", "name: f").Replace(
			redistest.NodesYAML(redistest.Three(t)))
	one := redistest.EmulatingProcesses(t, 1, ring)[0].Addr
	plain, several, env := one, one, []string{"COMPAT_ONLY=jobs"}
	if *long {
		plain, several = redistest.ServeProcess(t, ring).Addr, redistest.EmulatingProcesses(t, 3, ring)[0].Addr
		env = nil
	}
	outcomes := &results{of: map[string]map[string]bool{}}
	var ended sync.WaitGroup
	done := make(chan struct{})
	ended.Go(func() { switchUntil(t, done, plain, ring, slots) })
	t.Run("clients", func(t *testing.T) {
		for _, language := range strings.Split(*clients, ",") {
			if !*long && !slices.Contains([]string{"python", "node", "go", "ruby"}, language) {
				continue
			}
			t.Run(language, func(t *testing.T) {
				t.Parallel()
				args := append(slices.Clone(commands[language]), "switching", plain, one, several)
				run(t, language, args, outcomes, env...)
			})
		}
		if strings.Contains(*clients, "java") {
			t.Run("locks", func(t *testing.T) {
				t.Parallel()
				h := hold(t, append(slices.Clone(jvm), "deps/*", "LockFaults.java", "switching,"+plain, "5000"))
				for range 3 { // 20 seconds
					h.after("layouts change")
				}
				h.end()
			})
		}
	})
	close(done)
	ended.Wait()
}

// switchUntil changes the layout there and back until done is closed, and counts in the key "layouts". Keys move
// slowly, so that most commands meet some that have not come.
func switchUntil(t *testing.T, done chan struct{}, addr, ring, slots string) {
	at := []string{redistest.WriteFile(t, "ring.yml", ring), redistest.WriteFile(t, "slots.yml", slots)}
	for n := 0; ; n++ {
		select {
		case <-done:
			t.Logf("the layout has changed %d times", n)
			return
		default:
		}
		cmd := exec.Command(redistest.Build(t), "switch", "--rate", "3000", at[n%2], at[1-n%2])
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
			return
		}
		t.Log(fmt.Sprint(n, ": "), string(out))
		redistest.Ask(addr, "SET", "layouts", fmt.Sprint(n+1))
	}
}
