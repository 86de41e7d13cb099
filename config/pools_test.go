package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// parsePools parses a file without an environment.
func parsePools(text string) (Pools, error) {
	return ParsePools("f.yml", []byte(text), func(string) (string, bool) { return "", false })
}

// TestPoolsOfAFile: each pool has its own keys, and those of the process.
func TestPoolsOfAFile(t *testing.T) {
	pools, err := parsePools("threads: 3\nlimits: {memory: 64mb}\nshutdown: {delay: 2s}\nwatch: true\npools:\n" +
		"  b: &b\n    listen: 127.0.0.1:1\n    layout: ring\n    nodes: [{name: x, addr: h:1}]\n" +
		"    backend: {request_timeout: 2s}\n    limits: {max_args: 99}\n" +
		"  a: {listen: 127.0.0.1:2, slots: {seeds: [h:7]}, reads: replica}\n")
	if err != nil {
		t.Fatal(err)
	}
	b, a := pools.Find("b"), pools.Find("a")
	if names := pools.Names(); !slices.Equal(names, []string{"b", "a"}) || !pools.Named() || pools.Find("c") != nil {
		t.Fatalf("pools %q", names)
	}
	for _, c := range pools {
		if c.Threads != 3 || c.Limits.Memory != 64<<20 || c.Shutdown.Delay != 2*time.Second || !c.Watch {
			t.Errorf("pool %s has not the values of the process", c.Pool())
		}
	}
	if b.Layout != LayoutRing || b.Backend.Hold != 2*time.Second || b.Limits.MaxArgs != 99 || b.Reads != ReadsMaster {
		t.Errorf("pool b: %+v", b)
	}
	if a.Layout != LayoutSlots || a.Backend.Hold != 6*time.Second || a.Limits.MaxArgs != 1<<20 ||
		a.Reads != ReadsReplica {
		t.Errorf("pool a: %+v", a)
	}
	alone, err := parsePools("slots: {seeds: [h:7]}\n")
	if err != nil || alone.Named() || alone[0].Pool() != "" {
		t.Errorf("a file without pools: %v %v", alone, err)
	}
	for name, want := range map[string]string{
		"":  "f.yml has several pools; name one with --pool: b, a",
		"c": `f.yml has no pool "c"; write --pool with one of b, a`,
	} {
		if _, err := pools.Choose(name); err == nil || err.Error() != want {
			t.Errorf("pool %q: %v", name, err)
		}
	}
	if _, err := alone.Choose("c"); err == nil || err.Error() != "f.yml has no pools; leave --pool out" {
		t.Error(err)
	}
	if c, err := pools[:1].Choose(""); err != nil || c != b {
		t.Error(c, err)
	}
}

// TestErrorsOfPools: an error names the pool and the place in the file.
func TestErrorsOfPools(t *testing.T) {
	const a = "  a: {listen: 127.0.0.1:1, slots: {seeds: [h:7]}}\n"
	for _, tc := range []struct{ text, want string }{
		{"pools:\n", "f.yml:1:1: pools: no pools; write pools: {NAME: {listen: ..., layout: ..., ...}, ...}"},
		{"pools: {}\n", "f.yml:1:1: pools: no pools"},
		{"pools:\n" + a + a, `f.yml:3:3: pools: "a" appears twice; give each pool a name of its own`},
		{"pools: {\"a b\": {}}\n", `f.yml:1:9: pools: "a b" is no name for a pool; write up to 64 letters`},
		{"listen: h:1\npools:\n" + a, "f.yml:1:9: listen: with pools, this key belongs into a pool; write it"},
		{"limits: {max_args: 99}\npools:\n" + a, "f.yml:1:20: limits.max_args: with pools, this key belongs"},
		{"pools:\n  a: {threads: 2}\n", "f.yml:2:16: pools.a.threads: this key belongs to the process; write"},
		{"pools:\n  a: {limits: {memory: 64mb}}\n", "pools.a.limits.memory: this key belongs to the process"},
		{"pools:\n  a: {slots: {seeds: [h:7]}}\n", "f.yml:2:3: pools.a.listen: a pool without an address for clients"},
		{"pools:\n  a: {listen: h:1, layuot: ring}\n", `f.yml:2:20: pools.a: unknown key "layuot"; did you`},
		{"pools:\n  a: {listen: h:1, layout: rings}\n", `f.yml:2:28: pools.a.layout: unknown layout "rings"`},
		{"threads: 0\npools:\n" + a, "f.yml:1:10: threads: out of range"},
		{
			"pools:\n" + a + strings.Replace(a, "a:", "b:", 1),
			`f.yml:3:15: pools.b.listen: the pool a listens on "127.0.0.1:1"; write another port`,
		},
		{
			"pools:\n" + a + "  b: {listen: 127.0.0.1:2, layout: ring, nodes: [{name: x, addr: 127.0.0.1:1}]}\n",
			`pools.b.nodes[0].addr: "127.0.0.1:1" is where the pool a listens; write the address of the Redis server`,
		},
	} {
		_, err := parsePools(tc.text)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s\ngot  %v\nwant %s", tc.text, err, tc.want)
		}
	}
	_, err := Parse("f.yml", []byte("pools:\n"+a), nil)
	if err == nil || err.Error() != "f.yml:2:3: pools.a: this file must not have pools; "+
		"write the keys of one pool into a file of its own" {
		t.Error(err)
	}
}

// TestChangesOfPools: a change names its pool, unless the key belongs to the process.
func TestChangesOfPools(t *testing.T) {
	file := func(threads, reads string) Pools {
		pools, err := parsePools("threads: " + threads + "\npools: {a: {listen: h:1, slots: {seeds: [h:7]}, reads: " +
			reads + "}}\n")
		if err != nil {
			t.Fatal(err)
		}
		return pools
	}
	var texts []string
	for _, c := range file("1", "master")[0].Changes(file("2", "replica")[0]) {
		texts = append(texts, c.String())
	}
	if want := []string{"threads: 1 -> 2", "pools.a.reads: master -> replica"}; !slices.Equal(texts, want) {
		t.Errorf("%q, want %q", texts, want)
	}
}
