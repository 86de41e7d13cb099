package locks

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A lock of several resources is one script with several keys: each key has a row, and is
// renewed and released with the others.
func TestLockOfSeveralResources(t *testing.T) {
	for _, c := range []struct{ library, acquire, renew, release, args string }{
		{"redlock (node)", "e5a322e2634ef59a516e8ea150cb085afafee684", "ce46f80993d5dac20dd066eb301a4e37994bdbed",
			"0f0f23b9048b36752b5be114f357ba083449f908", "tok 10000"},
		{"redlock (sesamecare)", "1b77b94aa78451d55dfa97e18819bfbfc596cb5b",
			"820e9778d2b6733e9ed771e4be90ae73a95a6f3b", "df51f6837dcfe303d334e6abea9aeae192bab216", "0 tok 10000"},
	} {
		s := newScene(t, Config{Size: 100})
		s.send("x", "EVALSHA "+c.acquire+" 3 {r}:a {r}:b {r}:c "+c.args, ":3")
		s.send("y", "EVALSHA "+c.acquire+" 2 {r}:a {r}:d "+strings.Replace(c.args, "tok", "tok2", 1), ":0")
		for _, key := range []string{"{r}:a", "{r}:b", "{r}:c"} {
			s.want(key, "held "+c.library+" string tok x")
		}
		if r := s.row("{r}:d"); r != nil && r.State == "held" {
			t.Errorf("%s: %+v", c.library, r)
		}
		s.after(6*time.Second).send("x", "EVALSHA "+c.renew+" 3 {r}:a {r}:b {r}:c "+c.args, ":3")
		if r := s.row("{r}:c"); r == nil || r.Lease != 10000 || r.Renewals != 1 {
			t.Errorf("%s: %+v", c.library, r)
		}
		s.after(2*time.Second).send("x", "EVALSHA "+c.release+" 3 {r}:a {r}:b {r}:c "+c.args, ":3")
		if rows := s.rows(Query{Count: 9}); len(rows) != 0 {
			t.Errorf("%s: %+v", c.library, rows)
		}
	}
}

// Of 50,000 locks that are held at once, the table keeps the 10,000 that were used last.
func TestManyLocksAtOnce(t *testing.T) {
	s := newScene(t, Config{Size: MaxLocks, Patterns: []string{"lock:*"}})
	for i := range 5 * MaxLocks {
		s.send("x", fmt.Sprintf("SET lock:%d tok NX PX 600000", i), "+OK")
	}
	rows := s.rows(Query{Count: 10 * MaxLocks})
	if len(rows) != MaxLocks || s.row("lock:0") != nil {
		t.Errorf("%d rows", len(rows))
	}
	for _, r := range rows {
		if len(r.Key) != len("lock:40000") || r.Key < "lock:40000" {
			t.Fatalf("%s is in the table", r.Key)
		}
	}
}

// TestCommandsWithManyLocksKeepNoMemory: the memory of a command on many locks, however short their names, is
// not kept for the next one.
func TestCommandsWithManyLocksKeepNoMemory(t *testing.T) {
	s := newScene(t, Config{Size: 10, Patterns: []string{"*"}})
	s.send("x", "SET a tok NX PX 30000", "+OK")
	s.eval("x", compareAndDelete, ":1", "1 a tok")
	if !s.send("x", "DEL"+strings.Repeat(" a", 1000), ":1") {
		t.Fatal("DEL is not watched")
	}
	for _, p := range s.watcher.unused {
		if cap(p.more) > maxMore {
			t.Errorf("the memory for %d locks is kept", cap(p.more))
		}
	}
}
