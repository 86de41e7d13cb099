package info

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/keyway-proxy/keyway/resp"
)

// Software is what the nodes run.
type Software struct {
	Name, Version string
	Known         bool // the values come from a node, not from keyway's defaults
	modules       []module
}

// Unknown is the software that clients are shown until a node was asked.
var Unknown = Software{Name: "redis", Version: "7.0.0"}

// module is a module that the nodes have loaded, as HELLO lists it.
type module struct {
	pairs  int    // number of names with values
	fields []byte // the encoded pairs; both versions of the protocol encode them alike
}

// ReadHello reads the reply to HELLO of a node that speaks RESP2. ok is false for any other
// reply.
func ReadHello(reply []byte) (s Software, ok bool) {
	n, rest, _ := resp.Elements(reply)
	for range n / 2 {
		var name, value []byte
		name, rest, _ = resp.Split(rest)
		value, rest, _ = resp.Split(rest)
		text, _ := resp.Bulk(value)
		switch key, _ := resp.Bulk(name); string(key) {
		case "server":
			s.Name = string(text)
		case "version":
			s.Version = string(text)
		case "modules":
			s.modules = readModules(value)
		}
	}
	s.Known = s.Version != ""
	return s, s.Known
}

func readModules(list []byte) (modules []module) {
	n, rest, _ := resp.Elements(list)
	for range n {
		var one []byte
		one, rest, _ = resp.Split(rest)
		if fields, pairs, ok := resp.Elements(one); ok {
			modules = append(modules, module{pairs: fields / 2, fields: bytes.Clone(pairs)})
		}
	}
	return modules
}

// IsBefore reports whether the nodes' version is surely older than version, such as "7.4.0".
func (s *Software) IsBefore(version string) bool {
	if !s.Known {
		return false
	}
	var a, b [2]int
	fmt.Sscanf(s.Version, "%d.%d", &a[0], &a[1])
	fmt.Sscanf(version, "%d.%d", &b[0], &b[1])
	return slices.Compare(a[:], b[:]) < 0
}

// Client is what HELLO says about the client's connection.
type Client struct {
	ID        uint64
	Version   resp.Version
	Emulating bool // the client sees a cluster
}

// AppendHello appends the reply to HELLO.
func (s *Software) AppendHello(b []byte, c Client) []byte {
	mode := "standalone"
	if c.Emulating {
		mode = "cluster"
	}
	b = c.Version.AppendMap(b, 7)
	text := func(name, value string) { b = resp.AppendBulkString(resp.AppendBulkString(b, name), value) }
	text("server", s.Name)
	text("version", s.Version)
	b = resp.AppendInt(resp.AppendBulkString(b, "proto"), int64(c.Version))
	b = resp.AppendInt(resp.AppendBulkString(b, "id"), int64(c.ID))
	text("mode", mode)
	text("role", "master")
	b = resp.AppendArray(resp.AppendBulkString(b, "modules"), len(s.modules))
	for _, m := range s.modules {
		b = append(c.Version.AppendMap(b, m.pairs), m.fields...)
	}
	return b
}
