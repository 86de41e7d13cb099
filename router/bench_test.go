package router

import (
	"fmt"
	"testing"
)

// BenchmarkPlace places keys by tables of different sizes. The keys do not come in order.
func BenchmarkPlace(b *testing.B) {
	for _, nodes := range []int{3, 300} {
		b.Run(fmt.Sprintf("ring of %d nodes", nodes), func(b *testing.B) { benchmarkPlace(b, ringWith(b, nodes)) })
	}
	for _, rules := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("%d rules", rules), func(b *testing.B) { benchmarkPlace(b, rulesOf(b, rules)) })
	}
}

func benchmarkPlace(b *testing.B, table *Table) {
	b.Helper()
	keys := make([][]byte, 1024)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key:%012d", i*7919%10_000)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		table.Place(keys[i%len(keys)])
		i++
	}
}

func ringWith(b *testing.B, n int) *Table {
	b.Helper()
	nodes, weights := make([]Node, n), make([]int, n)
	for i := range nodes {
		nodes[i] = Node{Name: fmt.Sprint(i), Addr: fmt.Sprintf("a:%d", i+1), Master: true}
		weights[i] = 1
	}
	table, err := NewRing(nodes, Hashed{Hash: "murmur", Weights: weights, HashTag: "{}"})
	if err != nil {
		b.Fatal(err)
	}
	return table
}

// rulesOf returns a table whose n rules share the numbers below 10,000 between three nodes.
func rulesOf(b *testing.B, n int) *Table {
	b.Helper()
	var rules []Rule
	for i := range n {
		from := int64(i) * 10_000 / int64(n)
		rules = append(rules, number(NodeID(i%len(three)), "key:", from, int64(i+1)*10_000/int64(n)-1))
	}
	table, err := NewRange(three, rules, None, "{}")
	if err != nil {
		b.Fatal(err)
	}
	return table
}
