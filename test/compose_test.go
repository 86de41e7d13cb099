package test

import (
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
	var command []string
	switch c := compose.Services["cluster"].Command.(type) {
	case []any:
		for _, word := range c {
			command = append(command, word.(string))
		}
	default:
		t.Fatalf("the cluster's command is a %T", c)
	}
	var nodes []*redistest.Node
	pairs := []string{"$$", "$"}
	for _, service := range []string{"redis-1", "redis-2", "redis-3", "redis-4", "redis-5", "redis-6"} {
		at := compose.Services[service].Networks.(map[string]any)["cluster"].(map[string]any)["ipv4_address"].(string)
		n := redistest.Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000", "--appendonly", "yes")
		nodes = append(nodes, n)
		pairs = append(pairs, at+":6379", n.Addr)
	}
	script := strings.NewReplacer(pairs...)
	up := func(when string) {
		t.Helper()
		words := make([]string, len(command))
		for i, w := range command {
			words[i] = script.Replace(w)
		}
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil || strings.Contains(string(out), "172.28") {
			t.Fatalf("%s: %v\n%s", when, err, out)
		}
		for _, n := range nodes {
			if info := n.Do("CLUSTER", "INFO").Text; !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:6") {
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
