package main

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
)

// withRedisCLI has redis-cli do what scripts use it for.
func withRedisCLI(library, at string, more ...string) {
	host, port, _ := net.SplitHostPort(at)
	run := func(input string, args ...string) (string, error) {
		cmd := exec.Command("redis-cli", append(append([]string{"-h", host, "-p", port}, more...), args...)...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	out, _ := exec.Command("redis-cli", "--version").Output()
	version := strings.TrimPrefix(strings.TrimSpace(string(out)), "redis-cli ")
	check := func(name string, run func() error) { report(library, version, name, run()) }
	k := key("cli")
	check("commands", func() error {
		if got, err := run("", "SET", k, "x"); err != nil || got != "OK" {
			return fmt.Errorf("%q, %v", got, err)
		}
		got, err := run("", "GET", k)
		return want(got, err, "x")
	})
	check("RESP3", func() error {
		if _, err := run("", "HSET", k+":h", "a", "1"); err != nil {
			return err
		}
		got, err := run("", "-3", "HGETALL", k+":h")
		return want(got, err, "a 1")
	})
	check("scripts", func() error {
		got, err := run("", "EVAL", "return {KEYS[1], ARGV[1]}", "1", k, "a")
		return want(got, err, k+"\na")
	})
	if len(more) > 0 {
		return // the rest is not for clusters
	}
	check("a script of commands", func() error {
		got, err := run("MULTI\nINCR {" + k + "}n\nINCR {" + k + "}n\nEXEC\n")
		return want(got, err, "OK\nQUEUED\nQUEUED\n1\n2")
	})
	check("mass insertion", func() error {
		var b strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&b, "SET %s:%d x\r\n", k, i)
		}
		got, err := run(b.String(), "--pipe")
		if err == nil && !strings.Contains(got, "errors: 0, replies: 1000") {
			err = fmt.Errorf("%q", got)
		}
		return err
	})
	check("scan", func() error {
		got, err := run("", "--scan", "--pattern", k+":*")
		seen := strings.Fields(got) // SCAN may return a key twice
		slices.Sort(seen)
		return want(len(slices.Compact(seen)), err, 1001)
	})
}
