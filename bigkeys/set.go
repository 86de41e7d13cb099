package bigkeys

import (
	"bytes"
	"encoding/binary"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Large is the size from which a request or a reply is large. No node refuses a smaller request:
// proto-max-bulk-len and client-query-buffer-limit are at least 1 MB. A node that refuses a request
// closes its connection.
const Large = 1 << 20

// Set contains the hashes of keys whose values are large. A new key replaces the key that has its place.
// The zero value is empty, and takes no memory.
type Set struct{ places *[1024]uint64 }

// IsEmpty reports whether no large value was seen so far.
func (s *Set) IsEmpty() bool { return s.places == nil }

// Find returns the hash of a key whose value is known to be large, and 0 for others.
func (s *Set) Find(key []byte) (hash uint64) {
	if hash = hashOf(key); s.has(hash) {
		return hash
	}
	return 0
}

func (s *Set) has(hash uint64) bool {
	return s.places != nil && s.places[hash%uint64(len(s.places))] == hash
}

// Add adds the only key of the command in frame, and returns its hash. It returns 0 if the
// command does not have exactly one key.
func (s *Set) Add(cmd *command.Command, frame []byte) (hash uint64) {
	var p resp.Parser
	_, st, err := p.Next(frame, &resp.DefaultLimits)
	if cmd.Single == 0 || err != nil || st != resp.Ready || p.Len() <= cmd.Single {
		return 0
	}
	if s.places == nil {
		s.places = new([1024]uint64)
	}
	hash = hashOf(p.Arg(cmd.Single))
	s.places[hash%uint64(len(s.places))] = hash
	return hash
}

// Forget removes a key by its hash.
func (s *Set) Forget(hash uint64) {
	if s.has(hash) {
		s.places[hash%uint64(len(s.places))] = 0
	}
}

// Announces reports whether a reply that begins with b will be large. It assumes 16
// bytes for each element.
func Announces(b []byte) bool {
	line, _, found := bytes.Cut(b[1:], []byte("\r\n"))
	n, ok := resp.ParseInt(line)
	switch {
	case !found || !ok:
		return false
	case b[0] == '$' || b[0] == '=':
		return n >= Large
	}
	return n >= Large/16 && (b[0] == '*' || b[0] == '~' || b[0] == '%')
}

// hashOf returns a key's hash. It is the same in each process: runs of a simulation must not differ in
// which keys replace each other.
func hashOf(key []byte) uint64 {
	h := uint64(len(key))
	for ; len(key) >= 8; key = key[8:] {
		h = mix(h ^ binary.LittleEndian.Uint64(key))
	}
	for _, c := range key {
		h = h<<8 ^ h>>56 ^ uint64(c)
	}
	return mix(h)
}

func mix(h uint64) uint64 {
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>32
}
