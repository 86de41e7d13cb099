package bench

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/tidwall/redcon"
)

const scriptedValue = 64 // bytes

// scriptedNodes starts servers that know as much of Redis as keyway and twemproxy ask of nodes without
// replicas, and answer each GET with the same value. Three hundred redis-server would take too much memory.
func scriptedNodes(t *testing.T, n int) (addrs []string) {
	t.Helper()
	value := []byte(strings.Repeat("x", scriptedValue))
	answer := func(c redcon.Conn, cmd redcon.Command) {
		switch strings.ToLower(string(cmd.Args[0])) {
		case "get":
			c.WriteBulk(value)
		case "ping": // keyway checks that it gets its own text back
			c.WriteBulk(cmd.Args[len(cmd.Args)-1])
		case "exists", "dbsize":
			c.WriteInt(0)
		case "info":
			c.WriteBulkString("redis_version:7.0.15\r\nrole:master\r\nloading:0\r\n")
		case "client", "select":
			c.WriteString("OK")
		default:
			c.WriteError(fmt.Sprintf("ERR unknown command '%s'", cmd.Args[0]))
		}
	}
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := redcon.NewServer("", answer, nil, nil)
		go server.Serve(listener)
		t.Cleanup(func() { listener.Close() })
		addrs = append(addrs, listener.Addr().String())
	}
	return addrs
}
