package test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// connectionNames returns the names of a node's clients.
func connectionNames(n *redistest.Node) (all []string) {
	for field := range strings.FieldsSeq(n.Do("CLIENT", "LIST").Text) {
		if name, ok := strings.CutPrefix(field, "name="); ok {
			all = append(all, name)
		}
	}
	return all
}

// TestConnectionsAreNamed: each connection to a node has keyway's name and the hash of its
// placement, whatever clients call themselves.
func TestConnectionsAreNamed(t *testing.T) {
	t.Parallel()
	n := redistest.Start(t)
	k := redistest.Serve(t, "instance: kw-7\n"+redistest.Ring(n.Addr)).Ready()
	pattern := regexp.MustCompile("^keyway:kw-7:e0:[0-9a-f]{12}$")
	watching, listening, third := k.Dial(), k.Dial(), k.Dial()
	watching.MustDo("CLIENT", "SETNAME", "mine")
	watching.MustDo("WATCH", "x")
	watching.MustDo("MULTI")
	watching.MustDo("CLIENT", "SETNAME", "mine-too")
	watching.MustDo("PING")
	watching.MustDo("EXEC")
	watching.MustDo("WATCH", "x")
	listening.MustDo("SUBSCRIBE", "c")
	third.MustDo("HELLO", "3", "SETNAME", "third")
	third.MustDo("SET", "x", "y")
	third.MustDo("RESET")
	third.MustDo("SET", "x", "y")
	named := 0
	for _, name := range connectionNames(n) {
		if name == "" { // the client that asks
			continue
		}
		if named++; !pattern.MatchString(name) {
			t.Errorf("a connection is called %q", name)
		}
	}
	if named < 4 {
		t.Errorf("%d connections have a name: %q", named, connectionNames(n))
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	p := redistest.ServeProcess(t, redistest.Ring(n.Addr))
	port := p.Addr[strings.LastIndexByte(p.Addr, ':'):]
	own := func(name string) bool { return strings.HasPrefix(name, "keyway:"+host+port+":") }
	if !slices.ContainsFunc(connectionNames(n), own) {
		t.Errorf("no connection is called after %s%s: %q", host, port, connectionNames(n))
	}
	p.End()
}

// TestNodesWithoutNames: a node on which keyway may not use CLIENT serves all the same.
func TestNodesWithoutNames(t *testing.T) {
	t.Parallel()
	n := redistest.Start(t, "--rename-command", "CLIENT", "")
	p := redistest.ServeProcess(t, redistest.Ring(n.Addr))
	redistest.Dial(t, p.Addr).Expect("OK", "SET", "x", "y")
	p.End()
}

// TestDisagreeingKeyways: a keyway does not start beside another that serves the same nodes
// by another placement, and names it. If it may start, both warn, and both count the other.
func TestDisagreeingKeyways(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	a, b := redistest.Start(t), redistest.Start(t)
	yaml := redistest.Ring(a.Addr, b.Addr)
	firstAdmin, secondAdmin := freeAddr(t), freeAddr(t)
	first := redistest.ServeProcess(t, "instance: kw-1\nadmin: "+firstAdmin+"\n"+yaml)
	text := refused(t, yaml+"ring: {hash: md5}\n")
	for _, want := range []string{
		"placement: other keyways serve these nodes by another placement than this file (",
		"  keyway kw-1 at 127.0.0.1, with placement ", "is connected to node a\n",
		"give all keyways the same layout", "stop the others first", "placement: {misplaced: allow}",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q: %s", want, text)
		}
	}
	// Another address of a node and another name of the keyway are no other placement.
	third := redistest.ServeProcess(t, "instance: kw-3\n"+strings.ReplaceAll(yaml, "127.0.0.1", "localhost"))
	third.End()
	second := redistest.ServeProcess(t, fmt.Sprintf(
		"instance: kw-2\nadmin: %s\nplacement: {misplaced: allow}\nring: {hash: md5}\n%s", secondAdmin, yaml))
	for _, addr := range []string{firstAdmin, secondAdmin} {
		redistest.Eventually(t, 80*time.Second, "both count the other", func() bool {
			return strings.Contains(get(t, "http://"+addr+"/metrics"), "\nkeyway_disagreeing_keyways 1\n")
		})
		if status, body := fetch(t, "http://"+addr+"/readyz"); status != 200 {
			t.Errorf("not ready: %s", body)
		}
	}
	second.End()
	first.End()
	const warning = "another keyway serves the same nodes by another placement"
	if n := lines(first.Stderr.String(), "level=WARN", warning, "keyway=kw-2", "from=127.0.0.1"); n != 1 {
		t.Errorf("the first: %s", first.Stderr)
	}
	if n := lines(second.Stderr.String(), "level=WARN", warning, "keyway=kw-1", "from=127.0.0.1"); n != 1 {
		t.Errorf("the second: %s", second.Stderr)
	}
}
