package bigkeys

import (
	"hash/maphash"
	"strconv"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/hotkeys"
)

// TestLogKeepsLatestAndLargest: of many large values, a log keeps those that came last, and the largest ones
// whenever they came.
func TestLogKeepsLatestAndLargest(t *testing.T) {
	var l Log
	seed, now := maphash.MakeSeed(), time.Unix(1000, 0)
	see := func(key string, size int, kind Kind) {
		now = now.Add(time.Second)
		s := Sighting{Kind: kind, Bytes: size, Command: command.Lookup([]byte("set")), Node: "n", At: now,
			Client: hotkeys.Client{ID: 7, Addr: "a", Name: "c"}}
		s.Set(seed, []byte(key), 0)
		l.Record(&s)
	}
	see("giant", 1<<30, Value)
	for i := range 10_000 {
		see("key:"+strconv.Itoa(i), Large+i%5000, Value)
	}
	see("key:9999", Large, Reply)
	rows := Join([][]Row{l.Rows()}, MaxRows)
	if len(rows) != latest+largest || rows[0].Key != "giant" || rows[0].Bytes != 1<<30 || rows[0].Times != 1 {
		t.Fatalf("%d rows; the first is %+v", len(rows), rows[0])
	}
	kept := map[string]Row{}
	for i, r := range rows {
		if kept[r.Key] = r; i > 0 && r.Bytes > rows[i-1].Bytes {
			t.Errorf("row %d has more bytes than the one before", i)
		}
	}
	for i := 10_000 - latest + 1; i < 10_000; i++ {
		if _, ok := kept["key:"+strconv.Itoa(i)]; !ok {
			t.Errorf("key:%d is not there, and is among the latest", i)
		}
	}
	for i := range largest / 2 {
		if key := "key:" + strconv.Itoa(4999-i); kept[key].Bytes == 0 {
			t.Errorf("%s is not there, and is among the largest", key)
		}
	}
	last := kept["key:9999"]
	if last.Times != 2 || last.Bytes != Large || last.Kind != Reply || last.Time != now || last.Addr != "a" ||
		last.Command != "SET" || last.Node != "n" {
		t.Errorf("%+v", last)
	}
	if rows := Join([][]Row{l.Rows()}, 3); len(rows) != 3 {
		t.Errorf("%d rows", len(rows))
	}
}

// TestLogsAreJoined: a key that two threads have seen is one row, with what was seen last.
func TestLogsAreJoined(t *testing.T) {
	var a, b Log
	s := Sighting{Kind: Value, Bytes: 5, Command: command.Lookup([]byte("set")), At: time.Unix(2, 0)}
	s.Set(maphash.MakeSeed(), []byte("k\xff"), 0)
	a.Record(&s)
	s.Bytes, s.At = 9, time.Unix(1, 0)
	b.Record(&s)
	rows := ForJSON(Join([][]Row{b.Rows(), a.Rows()}, 10))
	if len(rows) != 1 || rows[0].Bytes != 5 || rows[0].Times != 2 || rows[0].Key != `"k\xff"` {
		t.Errorf("%+v", rows)
	}
}

// TestLogAllocatesNothing: not once it is full, whatever keys come.
func TestLogAllocatesNothing(t *testing.T) {
	var l Log
	seed, key, i := maphash.MakeSeed(), make([]byte, 4), uint32(0)
	s := Sighting{Kind: Value, Command: command.Lookup([]byte("set"))}
	see := func() {
		i++
		key[0], key[1], key[2] = byte(i), byte(i>>8), byte(i>>16)
		s.Set(seed, key, 0)
		s.Bytes = int(i*2654435761) % 1000
		l.Record(&s)
	}
	for range 1000 {
		see()
	}
	if n := testing.AllocsPerRun(1000, see); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
