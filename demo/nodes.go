package demo

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/alicebob/miniredis/v2"
	embedded "github.com/alicebob/miniredis/v2/server"
)

// nodes are Redis nodes in memory.
type nodes []*miniredis.Miniredis

func startNodes(n int) (all nodes, err error) {
	for range n {
		m := miniredis.NewMiniRedis()
		if err := m.StartAddr("127.0.0.1:0"); err != nil {
			all.close()
			return nil, fmt.Errorf("starting an embedded node: %w", err)
		}
		m.Server().SetPreHook(fill(m, n))
		all = append(all, m)
	}
	return all, nil
}

func (n nodes) close() {
	for _, m := range n {
		m.Close()
	}
}

func (n nodes) addrs() (all []string) {
	for _, m := range n {
		all = append(all, m.Addr())
	}
	return all
}

// fill answers what an embedded node lacks, one of so many.
func fill(m *miniredis.Miniredis, count int) embedded.Hook {
	return func(c *embedded.Peer, cmd string, args ...string) bool {
		switch {
		case strings.EqualFold(cmd, "command") && len(args) > 0 && strings.EqualFold(args[0], "docs"):
			// redis-cli sends COMMAND DOCS at start. The nodes answer every COMMAND with the reply of
			// another subcommand, and redis-cli then exits.
			c.WriteLen(0)
		case strings.EqualFold(cmd, "info"):
			c.WriteBulk(info(m, count))
		default:
			return false
		}
		return true
	}
}

// info returns the reply to INFO, with what keyway and redis-cli look for. Each node has an equal part of the
// process's memory.
func info(m *miniredis.Miniredis, count int) string {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	text := "# Server\r\nredis_version:7.0.0\r\nredis_mode:standalone\r\n\r\n" +
		fmt.Sprintf("# Clients\r\nconnected_clients:%d\r\nblocked_clients:0\r\n\r\n", m.CurrentConnectionCount()) +
		fmt.Sprintf("# Memory\r\nused_memory:%d\r\n\r\n", memory.HeapAlloc/uint64(count)) +
		fmt.Sprintf("# Stats\r\ntotal_connections_received:%d\r\ntotal_commands_processed:%d\r\n\r\n",
			m.TotalConnectionCount(), m.CommandCount()) +
		"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n# Keyspace\r\n"
	if n := len(m.Keys()); n > 0 {
		text += fmt.Sprintf("db0:keys=%d,expires=0,avg_ttl=0\r\n", n)
	}
	return text
}
