package router

import (
	"github.com/keyway-proxy/keyway/hashring"
	"github.com/keyway-proxy/keyway/slots"
)

// Hashed configures the ring and modulo layouts.
type Hashed struct {
	Hash    string // one of hashring.HashNames
	HashTag string // two delimiters, or empty for none
	Weights []int  // of each node
}

// hashLayout places a key by the hash of its tag.
type hashLayout struct {
	hashring.Distribution
	hash    string
	tag     hashTag
	tagText string
}

// NewRing returns the table of a ketama ring of nodes.
func NewRing(nodes []Node, h Hashed) (*Table, error) {
	return newHashed("ring", nodes, h, func(n []hashring.Node, f hashring.Hash) (hashring.Distribution, error) {
		return hashring.New(n, f)
	})
}

// NewModulo returns the table of nodes chosen by hash modulo their weights.
func NewModulo(nodes []Node, h Hashed) (*Table, error) {
	return newHashed("modulo", nodes, h, func(n []hashring.Node, f hashring.Hash) (hashring.Distribution, error) {
		return hashring.NewModula(n, f)
	})
}

// builder makes the distribution of a hashed layout.
type builder func([]hashring.Node, hashring.Hash) (hashring.Distribution, error)

func newHashed(name string, nodes []Node, h Hashed, build builder) (*Table, error) {
	hash, ok := hashring.HashNamed(h.Hash)
	if !ok {
		return nil, &UnknownHashError{h.Hash}
	}
	tag, err := newHashTag(h.HashTag)
	if err != nil {
		return nil, err
	}
	members := make([]hashring.Node, len(nodes))
	for i, n := range nodes {
		members[i] = hashring.Node{Name: n.Name, Weight: h.Weights[i]}
	}
	d, err := build(members, hash)
	if err != nil {
		return nil, err
	}
	return newTable(name, &hashLayout{d, h.Hash, tag, h.HashTag}, nodes), nil
}

// UnknownHashError names a key hash that hashring does not have.
type UnknownHashError struct{ Hash string }

func (e *UnknownHashError) Error() string { return "unknown hash " + e.Hash }

func (l *hashLayout) Place(key []byte) (int32, NodeID) {
	n := l.Node(l.tag.of(key))
	return int32(n), NodeID(n)
}

// placeAndSlot returns the key's node, and its hash slot in another layout. It looks for the hash tag only
// once if both have the same delimiters.
func (l *hashLayout) placeAndSlot(key []byte) (slot uint16, node NodeID) {
	tag := slots.Tag(key, '{', '}')
	slot = slots.OfTag(tag)
	if l.tag.opening != '{' || l.tag.closing != '}' {
		tag = l.tag.of(key)
	}
	return slot, NodeID(l.Node(tag))
}

func (l *hashLayout) Explain(key []byte) Explanation {
	p := l.Point(l.tag.of(key))
	return Explanation{Tag: tagOf(key, l.tagText), Hash: &p}
}
