package router

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestRangeFindsTheRule: a number has the node of the only rule whose numbers it is in, or none, however many
// rules there are and however unevenly they are spread. A plain search through all rules says which.
func TestRangeFindsTheRule(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	spread := map[string]func() int64{
		"evenly":        func() int64 { return random.Int64N(100_000) },
		"next to each":  func() int64 { return random.Int64N(300) },
		"by magnitude":  func() int64 { return int64(1) << random.IntN(63) },
		"in two groups": func() int64 { return random.Int64N(2)*(math.MaxInt64-5000) + random.Int64N(5000) },
		"up to the end": func() int64 { return math.MaxInt64 - random.Int64N(1000) },
	}
	for name, number := range spread {
		for _, n := range []int{1, 2, 3, 50, 1000} {
			t.Run(fmt.Sprintf("%d rules, %s", n, name), func(t *testing.T) {
				rules := someRules(n, number)
				table, err := NewRange(three, rules, 0, "")
				if err != nil {
					t.Fatal(err)
				}
				for range 2000 {
					checkNumber(t, table, rules, number())
				}
				for _, r := range rules {
					for _, near := range []int64{r.From - 1, r.From, r.To, r.To + 1} {
						checkNumber(t, table, rules, near)
					}
				}
			})
		}
	}
}

// someRules returns at most n rules of two prefixes of the same length, for nodes 1 and 2.
func someRules(n int, number func() int64) (rules []Rule) {
	var bounds []int64
	for range 2 * n {
		bounds = append(bounds, number())
	}
	slices.SortFunc(bounds, cmp.Compare)
	bounds = slices.Compact(bounds)
	for i := 0; i+1 < len(bounds); i += 2 {
		for j, prefix := range []string{"a:", "b:"} {
			node := NodeID(1 + (i/2+j)%2)
			rules = append(rules, Rule{Node: node, Numeric: true, Prefix: prefix, From: bounds[i], To: bounds[i+1]})
		}
	}
	return rules
}

// checkNumber compares the nodes of a number's keys with those that a look at each rule finds.
func checkNumber(t *testing.T, table *Table, rules []Rule, number int64) {
	t.Helper()
	if number < 0 {
		return
	}
	for _, prefix := range []string{"a:", "b:", "c:"} {
		want := NodeID(0)
		for _, r := range rules {
			if r.Prefix == prefix && r.From <= number && number <= r.To {
				want = r.Node
			}
		}
		if _, got := table.Place(fmt.Appendf(nil, "%s%d", prefix, number)); got != want {
			t.Fatalf("%s%d is on node %d, want %d", prefix, number, got, want)
		}
	}
}
