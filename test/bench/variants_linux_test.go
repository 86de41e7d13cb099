package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// variant is a keyway that is compared with another one.
type variant struct {
	name string // for -only
	// start returns the targets that are compared. keyway is the one in front of these nodes.
	start func(t *testing.T, addrs []string, keyway target) []target
}

var (
	secured   = variant{"tls", withTLS}
	clustered = variant{"cluster", overCluster}
	observed  = variant{"observed", withObservers}
)

// withTLS starts keyway with a listener for each of TLS and plain text.
func withTLS(t *testing.T, addrs []string, _ target) []target {
	t.Helper()
	a := redistest.NewAuthority(t)
	cert, key := a.Issue("server", time.Hour*24)
	secure := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	plain := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	listen := fmt.Sprintf("listen: [%q, {addr: %q, tls: {cert: %s, key: %s}}]\n", plain, secure, cert, key)
	file := redistest.WriteFile(t, "keyway.yml", listen+"threads: 1\n"+ringYAML(addrs))
	p := redistest.StartProcess(t, "serve", "-c", file)
	p.Addr = plain
	p.Answers()
	pid := p.Cmd.Process.Pid
	return []target{
		{name: "keyway with TLS", addr: secure, pid: pid, authority: a.File},
		{name: ofKeyway, addr: plain, pid: pid},
	}
}

// overCluster starts keyway over a Redis Cluster with as many masters.
func overCluster(t *testing.T, addrs []string, keyway target) []target {
	t.Helper()
	c := redistest.NewCluster(t, len(addrs), 0)
	p := startKeyway(t, c.SeedsYAML())
	prepare(t, c.Nodes, p.addr)
	p.name = "keyway over a cluster"
	keyway.name = "keyway on a ring"
	return []target{p, keyway}
}

// withObservers starts keyway with all that looks at commands: rules of a user, the observer of locks, and a session
// of HOTKEYS besides the keys that keyway always counts. It is compared with one that has no users and does not
// observe locks.
func withObservers(t *testing.T, addrs []string, _ target) []target {
	t.Helper()
	acl := "on nopass ~key:* ~k:* ~lock:* ~nothing +@read +@write +@connection +@scripting +@keyspace +hotkeys"
	p := startKeyway(t, fmt.Sprintf("users: [{name: default, acl: %q}]\n", acl)+ringYAML(addrs))
	p.name = "keyway with users, locks and hot keys"
	redistest.Dial(t, p.addr).Expect("OK", "HOTKEYS", "START", "METRICS", "1", "NET")
	without := startKeyway(t, "locks: {observe: false}\n"+ringYAML(addrs))
	without.name = "keyway without"
	return []target{p, without}
}
