package compat

import (
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

var long = flag.Bool("long", false, "run the long forms of the tests of locks")

// jvm starts a program quickly.
var jvm = []string{"java", "-XX:TieredStopAtLevel=1", "-cp"}

// lockPrograms hold locks, by language. Each takes LAYOUT,ADDR for every layout, so that a
// Java machine starts once.
var lockPrograms = map[string][]string{
	"go":     {"go", "run", "./locks"},
	"python": {filepath.Join("venv", "bin", "python"), "locks.py"},
	"node":   {"node", "locks.mjs"},
	"java":   append(slices.Clone(jvm), "deps/locks/*", "LockRecipes.java"),
}

// TestLockLibraries holds locks with every library on every layout. The programs count
// inside themselves how many hold a lock, so a fault of keyway cannot hide an overlap.
func TestLockLibraries(t *testing.T) {
	if *clients == "" {
		t.Skip("make compat runs the clients of other languages")
	}
	outcomes := &results{of: map[string]map[string]bool{}}
	if *update && *long {
		t.Cleanup(func() {
			writeList(t, "../../docs/locks.md", outcomes.of, "slots", "static", "ring", "range", "modulo", "quorum")
		})
	}
	layouts := lockLayouts(t)
	at, quorum := lockTargets(t, layouts), quorumTarget(t)
	t.Run("of", func(t *testing.T) {
		for _, language := range strings.Split(*clients, ",") {
			if program := lockPrograms[language]; program != nil {
				t.Run(language, func(t *testing.T) {
					t.Parallel()
					args := append(slices.Clone(program), at...)
					run(t, language, append(args, quorum...), outcomes)
				})
			}
		}
	})
	if slices.Contains(strings.Split(*clients, ","), "java") {
		t.Run("redisson", func(t *testing.T) { redissonKinds(t, layouts, at, outcomes) }) // alone: it measures time
	}
}

// redissonKinds runs Redisson's locks and synchronizers. The long form does so as a cluster's
// client too, with an older release, and with a thousand threads that want one lock.
func redissonKinds(t *testing.T, layouts map[string]string, at []string, outcomes *results) {
	crowd, deps, all := "100", []string{"deps/*"}, []string(nil)
	if *long {
		crowd, deps = "1000", append(deps, "deps/redisson-3.45.1/*")
	}
	for _, a := range at {
		layout, addr, _ := strings.Cut(a, ",")
		all = append(all, layout+",single,"+addr)
		if *long && *target != "redis" {
			all = append(all, layout+",cluster,"+redistest.EmulatingProcesses(t, 1, layouts[layout])[0].Addr)
		}
	}
	control := redistest.Start(t).Addr
	for _, d := range deps {
		args := append(slices.Clone(jvm), d, "LockKinds.java", crowd, control)
		t.Run(d, func(t *testing.T) { run(t, "java", append(args, all...), outcomes) })
	}
}

// lockLayouts are the configurations; "slots" is a followed cluster.
func lockLayouts(t *testing.T) map[string]string {
	if *target == "redis" {
		return nil
	}
	layouts := redistest.Layouts(redistest.Three(t))
	layouts["static"] = layouts["slots"]
	layouts["slots"] = redistest.NewCluster(t, 3, 0).SeedsYAML()
	for layout := range layouts {
		layouts[layout] += "placement: {misplaced: allow}\n" // the layouts share the nodes
	}
	return layouts
}

// lockTargets are LAYOUT,ADDR for each layout.
func lockTargets(t *testing.T, layouts map[string]string) (at []string) {
	if *target == "redis" {
		return []string{"redis," + redistest.Start(t).Addr}
	}
	for _, layout := range slices.Sorted(maps.Keys(layouts)) {
		at = append(at, layout+","+redistest.ServeProcess(t, layouts[layout]).Addr)
	}
	return at
}

// quorumTarget is a keyway whose locks are on a majority of five nodes, whatever their names.
func quorumTarget(t *testing.T) []string {
	if *target == "redis" {
		return nil
	}
	var addrs []string
	for range 5 {
		n := redistest.Start(t)
		_, run, _ := strings.Cut(n.Do("INFO", "server").Text, "run_id:")
		n.Do("SET", "keyway:run", run[:40]) // a node without it does not vote before one max_lease
		addrs = append(addrs, n.Addr)
	}
	return []string{"quorum," + redistest.ServeProcess(t, redistest.Ring(redistest.Start(t).Addr)+
		fmt.Sprintf("locks: {quorum: [{match: \"*\", nodes: [%s], timeout: 2s, max_lease: 1m}]}\n",
			strings.Join(addrs, ", "))).Addr}
}
