package test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestComposeTwice: what docker-compose.yml runs to make the cluster makes it once, and
// finds it again when its nodes have just been started a second time.
func TestComposeTwice(t *testing.T) {
	t.Parallel()
	var nodes []*redistest.Node
	command := composeCommand(t, func() string {
		n := redistest.Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000", "--appendonly", "yes")
		nodes = append(nodes, n)
		return n.Addr
	})
	up := func(when string) {
		t.Helper()
		out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
		if err != nil || strings.Contains(string(out), "172.28") {
			t.Fatalf("%s: %v\n%s", when, err, out)
		}
		for _, n := range nodes {
			if info := n.Do("CLUSTER", "INFO").Text; !strings.Contains(info, "cluster_state:ok") ||
				!strings.Contains(info, "cluster_known_nodes:6") {
				t.Errorf("%s: node %s says %s", when, n.Addr, info)
			}
		}
	}
	up("the first time")
	k := redistest.Serve(t, "layout: slots\nslots: {seeds: [\""+nodes[0].Addr+"\"]}\n").Ready()
	k.Dial().Expect("OK", "SET", "hello", "world")
	k.Stop()
	for _, n := range nodes {
		n.Kill()
	}
	for _, n := range nodes {
		n.Run()
	}
	up("the second time")
	up("while it runs")
	k = redistest.Serve(t, "layout: slots\nslots: {seeds: [\""+nodes[0].Addr+"\"]}\n").Ready()
	k.Dial().Expect("world", "GET", "hello")
}

// composeCommand returns the command line that makes the cluster in docker-compose.yml, with
// the address of each node replaced by that of a node that start has started.
func composeCommand(t *testing.T, start func() (addr string)) []string {
	t.Helper()
	text, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			Command  any
			Networks any
		}
	}
	if err := yaml.Unmarshal(text, &compose); err != nil {
		t.Fatal(err)
	}
	words, ok := compose.Services["cluster"].Command.([]any)
	if !ok {
		t.Fatalf("the cluster's command is a %T", compose.Services["cluster"].Command)
	}
	pairs := []string{"$$", "$"}
	for i := range 6 {
		networks := compose.Services[fmt.Sprintf("redis-%d", i+1)].Networks.(map[string]any)
		addr := networks["cluster"].(map[string]any)["ipv4_address"].(string)
		pairs = append(pairs, addr+":6379", start())
	}
	script := strings.NewReplacer(pairs...)
	command := make([]string, len(words))
	for i, word := range words {
		command[i] = script.Replace(word.(string))
	}
	return command
}
