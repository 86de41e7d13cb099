package redistest

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"
)

// freePort stands for a free port among a node's options.
const freePort = "FREE"

// NodeOptions returns the options of nodes that speak TLS at Node.TLSAddr, besides their plain
// port, with a certificate of the authority. Replication and the cluster bus use TLS.
func (a *Authority) NodeOptions(more ...string) []string {
	a.t.Helper()
	cert, key := a.Issue("node", 24*time.Hour)
	return append([]string{"--tls-port", freePort, "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", a.File, "--tls-auth-clients", "no", "--tls-replication", "yes", "--tls-cluster", "yes"},
		more...)
}

// withTLS replaces freePort in the options of a node.
func (n *Node) withTLS(host string) {
	if i := slices.Index(n.args, freePort); i >= 0 {
		port := FreePort(n.t)
		n.args[i] = strconv.Itoa(port)
		n.TLSPort, n.TLSAddr = port, net.JoinHostPort(host, n.args[i])
	}
}

// OverTLS returns nodes for the TLS ports of others, whose Addr is the TLSAddr.
func OverTLS(t testing.TB, nodes []*Node) (over []*Node) {
	for _, n := range nodes {
		over = append(over, Attach(t, n.TLSAddr))
	}
	return over
}

// NewWatchedTLS is NewWatched over TLS. The sentinels report the TLS addresses of nodes.
func NewWatchedTLS(t testing.TB, a *Authority, names ...string) *Watched {
	t.Helper()
	options := a.NodeOptions()
	conf := fmt.Sprintf("tls-cert-file %s\ntls-key-file %s\ntls-ca-cert-file %s\ntls-auth-clients no\n"+
		"tls-replication yes\n", options[3], options[5], a.File)
	w := &Watched{t: t, Names: names}
	for _, name := range names {
		master := Start(t, append(options, "--repl-diskless-sync-delay", "0")...)
		replica := Start(t, append(slices.Clone(options), "--repl-diskless-sync-delay", "0",
			"--replicaof", "127.0.0.1 "+strconv.Itoa(master.TLSPort))...)
		Eventually(t, 20*time.Second, "the replica is in step", replica.follows)
		w.Masters, w.Replicas = append(w.Masters, master), append(w.Replicas, replica)
		conf += monitor(name, master.TLSPort)
	}
	for range 3 {
		port := FreePort(t)
		s := startSentinel(t, fmt.Sprintf("tls-port %d\n", port)+conf)
		s.TLSPort, s.TLSAddr = port, fmt.Sprintf("127.0.0.1:%d", port)
		w.Sentinels = append(w.Sentinels, s)
	}
	w.Settle()
	return w
}
