package clients

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTopIsTheSortedBeginning: Top keeps what sorting everything would put first, whatever the column and the order
// in which clients come, also those of several threads.
func TestTopIsTheSortedBeginning(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, column := range Columns() {
		for _, count := range []int{1, 2, 10, 100, 500} {
			q := Query{Sort: column, Count: count, IsReversed: count == 10}
			var all []Client
			threads := make([][]Row, 2)
			for thread := range threads {
				top := NewTop[Client](count)
				for id := range 300 {
					c := Client{Identity: Identity{ID: uint64(2*id + thread), Addr: fmt.Sprint(r.IntN(50))},
						Memory: r.IntN(20), Commands: uint64(id), DB: uint16(r.IntN(3)), Flags: fmt.Sprint(r.IntN(2))}
					all = append(all, c)
					if top.Add(q.Key(&c), c); len(top.all) > 2*count {
						t.Fatalf("%d clients are kept for %d", len(top.all), count)
					}
				}
				for _, c := range top.First() {
					threads[thread] = append(threads[thread], c.Row(q, false))
				}
			}
			slices.SortFunc(all, func(a, b Client) int {
				k, o := q.Key(&a), q.Key(&b)
				by := cmp.Or(cmp.Compare(o.Number, k.Number), cmp.Compare(k.Text, o.Text), cmp.Compare(a.ID, b.ID))
				if q.IsReversed {
					return -by
				}
				return by
			})
			got := JoinRows(threads, count)
			if len(got) != min(count, len(all)) {
				t.Fatalf("%d rows, want %d", len(got), count)
			}
			for i, row := range got {
				if row != all[i].Row(q, false) {
					t.Errorf("%d by %s: %+v", i, column, row)
				}
			}
		}
	}
}

// TestJoinTopics: a topic that several threads know is one, and the one with the most clients comes first.
func TestJoinTopics(t *testing.T) {
	got := JoinTopics([]Topics{
		{[]Topic{{"b", ChannelKind, 3}, {"a", ChannelKind, 1}}, true},
		{[]Topic{{"b", PatternKind, 5}, {"b", ChannelKind, 4}, {"c", ChannelKind, 1}}, true},
	}, 3)
	want := []Topic{{"b", PatternKind, 5}, {"b", ChannelKind, 4}, {"a", ChannelKind, 1}}
	if !slices.Equal(got.Topics, want) || !got.Whole {
		t.Errorf("%+v", got)
	}
	if got := JoinTopics([]Topics{{nil, true}, {nil, false}}, 3); got.Topics == nil || got.Whole {
		t.Errorf("%+v", got)
	}
}
