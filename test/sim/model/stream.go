package model

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// stream is what a master sends to its replicas, and how far each has got.
type stream struct {
	effects  []effect
	replicas []*replica
}

// effect is one change. Replicas get values, not commands.
type effect struct {
	key     string
	entry   *entry // nil: the key is deleted
	library string // of functions, if not empty
	code    string // empty: the library is deleted
}

type replica struct {
	entries   map[string]*entry
	libraries map[string]string
	applied   int64
}

func (s *stream) end() int64 { return int64(len(s.effects)) }

func (s *stream) append(e effect) {
	if len(s.replicas) > 0 {
		s.effects = append(s.effects, e)
	}
}

// AddReplica gives the node one more replica, which has all that the node has.
func (n *Node) AddReplica() {
	n.stream.replicas = append(n.stream.replicas, &replica{
		entries: maps.Clone(n.data.entries), libraries: maps.Clone(n.libraries), applied: n.stream.end(),
	})
}

// Replicate lets a replica apply at most max effects.
func (n *Node) Replicate(index, max int) {
	r := n.stream.replicas[index]
	for ; max > 0 && r.applied < n.stream.end(); max-- {
		e := n.stream.effects[r.applied]
		r.applied++
		switch {
		case e.library != "" && e.code == "":
			delete(r.libraries, e.library)
		case e.library != "":
			r.libraries[e.library] = e.code
		case e.entry == nil:
			delete(r.entries, e.key)
		default:
			r.entries[e.key] = e.entry
		}
	}
}

// Lag returns how many effects a replica has not applied yet.
func (n *Node) Lag(index int) int64 { return n.stream.end() - n.stream.replicas[index].applied }

// FailOver makes a replica take the node's place: all connections end, and what the replica
// has not applied is lost. The other replicas begin anew.
func (n *Node) FailOver(index int) {
	n.Restart()
	r := n.stream.replicas[index]
	d := NewData()
	for k, e := range r.entries {
		d.set(k, e.clone())
	}
	n.data, n.libraries = d, r.libraries
	count := len(n.stream.replicas)
	n.stream = stream{}
	for range count {
		n.AddReplica()
	}
}

// waitForReplicas executes WAIT.
func waitForReplicas(c *Conn, args []string) []byte {
	n := c.node
	need, ok := number(args[1])
	timeout, err := strconv.ParseInt(args[2], 10, 64)
	if !ok || err != nil {
		return errorReply(notInteger)
	}
	if timeout < 0 {
		return errorReply("ERR timeout is negative")
	}
	count := func() []byte {
		have := int64(0)
		for _, r := range n.stream.replicas {
			if r.applied >= c.written {
				have++
			}
		}
		return resp.AppendInt(nil, have)
	}
	enough := func() []byte {
		reply := count()
		if have, _ := resp.Int(reply); have < need {
			return nil
		}
		return reply
	}
	if reply := enough(); reply != nil || c.inBlock {
		return count()
	}
	return c.await(time.Duration(timeout)*time.Millisecond, enough, count)
}

// Libraries returns the names of the node's libraries of functions, sorted.
func (n *Node) Libraries() []string { return slices.Sorted(maps.Keys(n.libraries)) }
