package locks

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/resp"
)

// scene is a watcher and a table of one thread, and their clock.
type scene struct {
	t       testing.TB
	watcher *Watcher
	table   *Table
	now     int64
	texts   map[string]string // by SHA-1
}

func newScene(t testing.TB, c Config) *scene {
	s := &scene{t: t, now: int64(time.Hour), texts: map[string]string{}}
	s.table = NewTable(c)
	s.watcher = NewWatcher(s.table, s, func(sha []byte) []byte {
		if text := s.texts[string(sha)]; text != "" {
			return []byte(text)
		}
		return nil
	})
	return s
}

func (s *scene) Now() int64      { return s.now }
func (s *scene) Handle(e *Event) { s.table.Apply(e) }

func (s *scene) rows(q Query) []Row { return Join([]Part{{Rows: s.table.Rows(s.now, q)}}, q.Count) }

// after moves the clock and sweeps each second.
func (s *scene) after(d time.Duration) *scene {
	for end := s.now + int64(d); s.now < end; {
		s.now += min(int64(time.Second), end-s.now)
		s.table.Sweep(s.now)
	}
	return s
}

// framed returns a command that was received.
func framed(t testing.TB, args ...string) command.Args {
	t.Helper()
	p := new(resp.Parser)
	if _, st, err := p.Next(resp.AppendCommand(nil, args...), &resp.DefaultLimits); err != nil || st != resp.Ready {
		t.Fatalf("%q: %v", args, err)
	}
	return p
}

// send lets a client send a command and the node reply. It returns whether the command was
// recognized. who is "name" or "name@host:port".
func (s *scene) send(who, line, reply string) bool {
	s.t.Helper()
	return s.sendArgs(who, reply, strings.Fields(line)...)
}

func (s *scene) sendArgs(who, reply string, args ...string) bool {
	s.t.Helper()
	cmd := command.Lookup([]byte(args[0]))
	if !cmd.Lock.Changes() {
		return false
	}
	p := s.watcher.Command(cmd, framed(s.t, args...), time.Unix(0, s.now), false)
	if p == nil {
		return false
	}
	name, addr, _ := strings.Cut(who, "@")
	id := uint64(0)
	for _, c := range who {
		id = id*31 + uint64(c)
	}
	p.From(Client{ID: id, Addr: addr, Name: name}, "a")
	s.now += int64(time.Millisecond)
	p.Replied([]byte(strings.ReplaceAll(reply, "|", "\r\n") + "\r\n"))
	return true
}

// eval sends a script as EVALSHA of a text that the cache has.
func (s *scene) eval(who, text, reply, rest string) bool {
	s.t.Helper()
	sha := lua.SHA1([]byte(text))
	s.texts[sha] = text
	return s.send(who, "EVALSHA "+sha+" "+rest, reply)
}

func (s *scene) row(key string) *Row {
	for _, r := range s.rows(Query{Count: 100}) {
		if r.Key == key {
			return &r
		}
	}
	return nil
}

// want compares a lock's row with a text.
func (s *scene) want(key, want string) {
	s.t.Helper()
	got := "none"
	if r := s.row(key); r != nil {
		got = strings.Join([]string{r.State, r.Library, r.Kind, r.Token, r.Name}, " ")
	}
	if got != want {
		s.t.Errorf("%s: %s, want %s", key, got, want)
	}
}

const (
	compareAndDelete = "if redis.call('get', KEYS[1]) == ARGV[1] " +
		"then return redis.call('del', KEYS[1]) else return 0 end"
	compareAndExpire = `if redis.call("GET",KEYS[1])==ARGV[1] ` +
		`then return redis.call("PEXPIRE",KEYS[1],ARGV[2]) end return 0`

	redissonAcquire = "149c5a8bf18676fd99e9e6e24923bd64d9b62f94"
	redissonRelease = "6866459238a13a701d42f4971f12d9f3a50e2442"
	redissonRenew   = "6a3d31570dc6f4b0bd32bcdc8e75667747c6f635"
)

// A lock that is set with NX and released by comparing is in the table from the release on,
// and other keys of its family are from their acquisition on.
func TestSetNXIsALockOnceItIsCompared(t *testing.T) {
	s := newScene(t, Config{Size: 100})
	s.send("x", "SET lock:1 tok NX PX 5000", "+OK")
	s.want("lock:1", "none")
	for _, line := range []string{"SET other v", "SET other v EX 10", "GET lock:1", "DEL other", "EXPIRE other 5"} {
		if s.send("x", line, "+OK") {
			t.Errorf("%s is recognized", line)
		}
	}
	s.eval("x", compareAndDelete, ":1", "1 lock:1 tok")
	s.send("y", "SET lock:1 tok2 NX PX 5000", "+OK")
	s.want("lock:1", "held script string tok2 y")
	s.send("x", "set lock:2 tok3 ex 30 nx", "+OK")
	s.want("lock:2", "held script string tok3 x")
	if r := s.row("lock:2"); r.Lease != 30000 || r.Node != "a" || r.Holders != 1 {
		t.Errorf("%+v", r)
	}
	s.send("z", "SET lock:2 tok4 EX 30 NX", "$-1")
	s.after(500*time.Millisecond).send("z", "SET lock:2 tok4 EX 30 NX", "$-1")
	if r := s.row("lock:2"); r.Pollers != 1 || r.Name != "x" {
		t.Errorf("%+v", r)
	}
	s.after(300*time.Millisecond).eval("x", compareAndDelete, ":1", "1 lock:2 tok3")
	s.send("z", "SET lock:2 tok4 EX 30 NX", "+OK")
	s.want("lock:2", "held script string tok4 z")
	f := s.table.figures[0]
	if f.Acquisitions != 3 || f.Refusals != 2 || f.Hold.Count != 2 || f.Wait.Count != 3 || f.Wait.Sum < 800 {
		t.Errorf("%+v", f)
	}
	s.after(32*time.Second).want("lock:2", "none")
	if f := s.table.figures[0]; f.Expired != 2 {
		t.Errorf("%d leases ran out", f.Expired)
	}
}

// Redisson's hash locks: several acquisitions of one holder, renewals of several locks in one
// script, and the time that a refused client must wait.
func TestRedisson(t *testing.T) {
	s := newScene(t, Config{Size: 100})
	s.send("a", "EVALSHA "+redissonAcquire+" 1 m 30000 id:1", "$-1")
	s.want("m", "held Redisson mutex id:1 a")
	s.send("a", "EVALSHA "+redissonAcquire+" 1 m 30000 id:1", "$-1")
	s.send("b", "EVALSHA "+redissonAcquire+" 1 m 30000 id:2", ":29000")
	if r := s.row("m"); r.Holders != 2 || r.Pollers != 1 {
		t.Errorf("%+v", r)
	}
	s.after(10*time.Second).send("a", "EVALSHA "+redissonRenew+" 2 m n 30000 id:1 id:1", "*2|:1|:0")
	if r := s.row("m"); r.Lease != 30000 || r.Renewals != 1 {
		t.Errorf("%+v", r)
	}
	release := "EVALSHA " + redissonRelease + " 3 m redisson_lock__channel:{m} latch 0 30000 id:1 publish 100"
	s.send("a", release, ":0")
	s.want("m", "held Redisson mutex id:1 a")
	asked := ""
	s.rows(Query{Count: 9, Subscribers: func(channel string) int { asked = channel; return 3 }})
	if asked != "redisson_lock__channel:{m}" {
		t.Errorf("asked for %q", asked)
	}
	s.send("a", release, ":1")
	s.after(2*time.Second).want("m", "none")
	s.send("a", "EVALSHA "+redissonRelease+" 3 m c l 0 30000 id:1 publish 100", "$-1")
	s.want("m", "none") // released twice: nothing was lost
}

// Scripts with the same meaning are recognized whatever they look like, and no others.
func TestClassify(t *testing.T) {
	for text, op := range map[string]Op{
		compareAndDelete: Release,
		compareAndExpire: Renew,

		"-- free\nlocal v = redis.call('GET', KEYS[1])\nif v == ARGV[1] " +
			"then\n redis.call('UNLINK', KEYS[1]) return 1 end return 0": Release,
		"local token = redis.call('get', KEYS[1]) if not token or token ~= ARGV[1] then return 0 end " +
			"redis.call('del', KEYS[1]) return 1": Release,
		"local key=KEYS[1] local id = ARGV[1]; if redis.call('get', key) == id " +
			"then return redis.call('expire', key, tonumber(ARGV[2])) end": Renew,
		"if redis.call('set',KEYS[1],ARGV[1],'NX','PX',ARGV[2]) " +
			"then return redis.call('incr',KEYS[2]) end return 0": Acquire,
		"if redis.call('setnx',KEYS[1],ARGV[1]) == 1 " +
			"then redis.call('pexpire',KEYS[1],ARGV[2]) return 1 else return 0 end": Acquire,

		"return redis.call('del', KEYS[1])": Nothing,
		"return redis.call('get', KEYS[1])": Nothing,
		"if redis.call('get',KEYS[1]) == ARGV[1] " +
			"then redis.call('incr', KEYS[1]) return redis.call('del',KEYS[1]) end": Nothing,
		"if redis.call('get',KEYS[1]) == ARGV[1] " +
			"then local c = 'flushall' redis.call(c) redis.call('del',KEYS[1]) end": Nothing,
		"if redis.call('get',KEYS[1]) ~= ARGV[1] then return 1 end redis.call('del',KEYS[1]) return 0": Nothing,
		"return 1": Nothing,
	} {
		got := Nothing
		if how := classify([]byte(text)); how != nil {
			got = how.Op
		}
		if got != op {
			t.Errorf("%q: operation %d, want %d", text, got, op)
		}
	}
	if how := classify([]byte(compareAndExpire)); how.Seconds || how.Lease != 2 || how.Token != 1 {
		t.Errorf("%+v", how)
	}
}

// The table is bounded: keys that are perhaps no locks leave first.
func TestTableIsBounded(t *testing.T) {
	s := newScene(t, Config{Size: 40, Patterns: []string{"lock:*"}})
	for i := range 30 {
		s.send("x", "SET lock:"+string(rune('A'+i))+" t NX PX 9000", "+OK")
	}
	for i := range 3000 {
		s.send("x", "SET seen:"+strings.Repeat("i", 1+i%300)+" 1 NX EX 5", "+OK")
	}
	if s.table.shown.n != 30 || s.table.guessed.n > 10 {
		t.Errorf("%d locks and %d others", s.table.shown.n, s.table.guessed.n)
	}
	for i := range 100 {
		s.send("x", "SET lock:"+strings.Repeat("z", 1+i)+" t NX PX 9000", "+OK")
	}
	if n := s.table.shown.n + s.table.guessed.n; n != 40 || len(s.rows(Query{Count: 25})) != 25 {
		t.Errorf("%d locks", n)
	}
	if rows := s.rows(Query{Count: 100, Match: []byte("lock:zz")}); len(rows) > 1 {
		t.Errorf("%d rows", len(rows))
	}
}

// Nothing is allocated once the memory has grown.
func TestWatchingAllocatesNothing(t *testing.T) {
	s := newScene(t, Config{Size: 100, Patterns: []string{"lock:*"}})
	set, get := framed(t, "SET", "lock:1", "token", "NX", "PX", "10000"), framed(t, "SET", "k", "v")
	sha := lua.SHA1([]byte(compareAndDelete))
	s.texts[sha] = compareAndDelete
	release, redisson := framed(t, "EVALSHA", sha, "1", "lock:1", "token"),
		framed(t, "EVALSHA", redissonAcquire, "1", "m", "30000", "id")
	ok, one, null, ttl := []byte("+OK\r\n"), []byte(":1\r\n"), []byte("$-1\r\n"), []byte(":99\r\n")
	run := func(a command.Args, reply []byte) {
		cmd := command.Lookup(a.Arg(0))
		if p := s.watcher.Command(cmd, a, time.Time{}, false); p != nil {
			p.From(Client{ID: 1, Addr: "127.0.0.1:1"}, "a")
			p.Replied(reply)
		}
	}
	once := func() {
		s.now++
		run(set, ok)
		run(set, null)
		run(release, one)
		run(redisson, null)
		run(redisson, ttl)
		run(get, ok)
	}
	once()
	if n := testing.AllocsPerRun(1000, once); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLock(b *testing.B) {
	w := newScene(b, Config{Size: 1000}).watcher
	cmd := command.Lookup([]byte("EVALSHA"))
	a := framed(b, "EVALSHA", redissonAcquire, "1", "lock:name", "30000", "0f3c:17")
	reply := []byte("$-1\r\n")
	for b.Loop() {
		p := w.Command(cmd, a, time.Time{}, false)
		p.From(Client{ID: 1}, "a")
		p.Replied(reply)
	}
}

func BenchmarkNoLock(b *testing.B) {
	w := newScene(b, Config{Size: 1000}).watcher
	a, cmd := framed(b, "DEL", "some:key"), command.Lookup([]byte("DEL"))
	for b.Loop() {
		w.Command(cmd, a, time.Time{}, false)
	}
}

// A script that no client has sent yet is recognized as soon as one does.
func TestUnknownScriptIsLearnedAtOnce(t *testing.T) {
	s := newScene(t, Config{Size: 100})
	sha := lua.SHA1([]byte(compareAndDelete))
	if s.send("x", "EVALSHA "+sha+" 1 k tok", "-NOSCRIPT x") {
		t.Error("recognized without the text")
	}
	if !s.sendArgs("x", ":0", "EVAL", compareAndDelete, "1", "k", "tok") {
		t.Error("EVAL is not recognized")
	}
	if !s.send("x", "EVALSHA "+sha+" 1 k tok", ":0") || s.send("x", "EVALSHA "+sha+" 0", ":0") {
		t.Error("EVALSHA is recognized wrongly")
	}
}

// A released lock leaves the table, unless a client waits for it or it has an alarm.
func TestReleasedLocksLeaveTheTable(t *testing.T) {
	s := newScene(t, Config{Size: 100, Patterns: []string{"lock:*"}})
	for i := range 50 {
		key := fmt.Sprintf("lock:%d", i)
		s.send(holder, "SET "+key+" tok NX PX 9000", "+OK")
		switch i {
		case 7:
			s.send(away, "SET "+key+" tok2 NX PX 9000", "$-1")
		case 8:
			s.send(away, "DEL "+key, ":1")
			continue
		}
		s.eval(holder, compareAndDelete, ":1", "1 "+key+" tok")
	}
	if n := s.table.shown.n; n != 2 {
		t.Errorf("%d locks are left", n)
	}
	s.want("lock:7", "free script string tok app")
	s.want("lock:8", "free script string tok app")
	if f := s.table.figures[0]; f.Acquisitions != 50 || f.Hold.Count != 50 {
		t.Errorf("%+v", f)
	}
}
