package page

import (
	"fmt"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// members returns nodes.
func members(count int) []router.Node {
	nodes := make([]router.Node, count)
	for i := range nodes {
		nodes[i] = router.Node{Name: fmt.Sprintf("node-%d", i), Addr: fmt.Sprintf("10.0.1.%d:%d", i%250+1, 6379+i/250),
			Master: true}
	}
	return nodes
}

// Slots returns a layout in which each node has as many slots, in one piece.
func Slots(count int) *router.Table {
	owned := make([][]slots.Range, count)
	for i := range owned {
		owned[i] = []slots.Range{{First: uint16(i * slots.Count / count), Last: uint16((i+1)*slots.Count/count - 1)}}
	}
	return must(router.NewStaticSlots(members(count), owned))
}

// Ring returns a ring.
func Ring(count int) *router.Table { return must(router.NewRing(members(count), hashed(count))) }

// Modulo returns a modulo in which the first node has twice the weight.
func Modulo(count int) *router.Table {
	h := hashed(count)
	h.Weights[0] = 2
	return must(router.NewModulo(members(count), h))
}

// Ranges returns a layout of rules of both kinds.
func Ranges() *router.Table {
	const million = 1_000_000
	return must(router.NewRange(members(4), []router.Rule{
		{Node: 0, Numeric: true, Prefix: "user:", From: 0, To: million - 1},
		{Node: 1, Numeric: true, Prefix: "user:", From: million, To: 2*million - 1},
		{Node: 2, Numeric: true, Prefix: "user:", From: 2 * million, To: 1<<63 - 1},
		{Node: 3, Text: "", TextTo: "h"}, {Node: 0, Text: "h", TextTo: "q"}, {Node: 1, Text: "q"},
	}, 2, "{}"))
}

func hashed(count int) router.Hashed {
	h := router.Hashed{Hash: "fnv1a_64", HashTag: "{}", Weights: make([]int, count)}
	for i := range h.Weights {
		h.Weights[i] = 1
	}
	return h
}

func must(t *router.Table, err error) *router.Table {
	if err != nil {
		panic(err)
	}
	return t
}
