package hotkeys

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// stream is a load with an oracle: it gives a tracker what the sampler asks for, as a worker does, and counts all.
type stream struct {
	*Tracker
	now     int64
	gap     int
	looked  int
	at      []int64            // when each access was, ns
	keys    []string           // which key it used
	clients map[string]*Client // of keys that one client uses; others have a client for each access
}

func newStream(random uint64) *stream {
	return &stream{Tracker: New(maphash.MakeSeed(), random, 0), clients: map[string]*Client{}}
}

// use accesses a key; every is the time until the next access.
func (s *stream) use(key string, every time.Duration) {
	if s.now += int64(every); s.gap > 0 {
		s.gap--
	} else {
		s.Look(s.now)
		a := Access{Key: []byte(key), Bytes: 10, IsWrite: strings.HasPrefix(key, "w"), Node: "n"}
		a.Client = Client{ID: uint64(len(s.keys)) + 1000}
		if c := s.clients[key]; c != nil {
			a.Client = *c
		}
		s.Add(&a)
		s.gap = s.Gap()
		s.looked++
	}
	s.at, s.keys = append(s.at, s.now), append(s.keys, key)
}

// shares returns the exact share of each key in the time that an answer covers.
func (s *stream) shares() map[string]float64 {
	since := max(s.now-s.now%Window-Window, 0)
	n, all := map[string]float64{}, 0.0
	for i := len(s.keys) - 1; i >= 0 && s.at[i] > since; i-- {
		n[s.keys[i]]++
		all++
	}
	for key := range n {
		n[key] /= all
	}
	return n
}

func (s *stream) rows(by By) []Row { return Join([]Part{s.Part(s.now)}, by, MaxRows) }

// check compares the rows with the oracle: each key with 1 % of the accesses is there, with its share but for
// the error of the sample, and no key with a clearly smaller share stands above it.
func (s *stream) check(t *testing.T) {
	t.Helper()
	exact, rows := s.shares(), s.rows(ByCommands)
	samples := samplesPerSecond * float64(Window) / 1e9
	if n := float64(len(s.keys)); n < samples {
		samples = n
	}
	shown := map[string]float64{}
	for i, r := range rows {
		shown[r.Key] = r.Share
		margin := 6*math.Sqrt(max(exact[r.Key], 1/samples)/samples) + 0.002
		if d := r.Share - exact[r.Key]; math.Abs(d) > margin {
			t.Errorf("row %d: %q has a share of %.5f, shown as %.5f", i, r.Key, exact[r.Key], r.Share)
		}
		if r.Share >= 0.01 && exact[r.Key] < 0.006 {
			t.Errorf("row %d: %q is shown above 1 %% (%.5f), and has %.5f", i, r.Key, r.Share, exact[r.Key])
		}
	}
	for key, share := range exact {
		if share >= 0.01 && shown[key] < 0.007 {
			t.Errorf("%q has a share of %.5f, and is shown with %.5f", key, share, shown[key])
		}
	}
}

func TestZipf(t *testing.T) {
	for _, every := range []time.Duration{time.Millisecond, 20 * time.Microsecond, time.Microsecond} {
		t.Run(every.String(), func(t *testing.T) {
			s := newStream(1)
			zipf := rand.NewZipf(rand.New(rand.NewPCG(2, 3)), 1.1, 1, 1_000_000)
			for s.now < int64(12*time.Second) && len(s.keys) < 1_000_000 {
				s.use(strconv.FormatUint(zipf.Uint64(), 10), every)
			}
			s.check(t)
			perSecond := float64(s.looked) / (float64(s.now) / 1e9)
			if perSecond > 1.3*samplesPerSecond && every > time.Microsecond || s.looked > len(s.keys) {
				t.Errorf("the tracker looked at %.0f accesses a second", perSecond)
			}
		})
	}
}

// TestUniform: if no key is hot, none is shown as hot.
func TestUniform(t *testing.T) {
	s, random := newStream(4), rand.New(rand.NewPCG(5, 6))
	for s.now < int64(11*time.Second) {
		s.use(strconv.Itoa(random.IntN(1_000_000)), 10*time.Microsecond)
	}
	s.check(t)
	for _, r := range s.rows(ByCommands) {
		if r.Share > 0.001 {
			t.Errorf("%q has a share of %.5f", r.Key, r.Share)
		}
	}
}

// TestOneInAHundred: a key that one client uses for 1 % of the accesses among a million keys is the first
// within 10 seconds, at 1,000 accesses a second and at 50,000, and names its client.
func TestOneInAHundred(t *testing.T) {
	for _, every := range []time.Duration{time.Millisecond, 20 * time.Microsecond} {
		t.Run(every.String(), func(t *testing.T) {
			s, random := newStream(7), rand.New(rand.NewPCG(8, 9))
			next := func(hot string) {
				if random.IntN(100) > 0 {
					hot = strconv.Itoa(random.IntN(1_000_000))
				}
				s.use(hot, every)
			}
			for s.now < int64(13*time.Second) {
				next("earlier") // another key is hot, and then cools down
			}
			s.clients["whot"] = &Client{ID: 7, Addr: "127.0.0.1:7", Name: "busy"}
			for began := s.now; s.now < began+int64(10*time.Second); {
				next("whot")
			}
			s.check(t)
			r := s.rows(ByCommands)[0]
			if r.Key != "whot" || r.Client != *s.clients["whot"] || r.ByClient < 0.99 {
				t.Errorf("the first row is %+v", r)
			}
			if rate := 0.01 / every.Seconds(); math.Abs(r.Writes-rate) > rate/2 || r.Reads != 0 || r.Node != "n" {
				t.Errorf("%.1f writes a second, not %.1f; %.1f reads", r.Writes, rate, r.Reads)
			}
			for _, r := range s.rows(ByCommands) {
				if r.Key == "earlier" && r.Share > 0.001 {
					t.Errorf("a key that was hot 10 s ago has a share of %.5f", r.Share)
				}
			}
		})
	}
}

// TestRotation: a client that changes its keys all the time, each used in a burst, neither hides a hot key nor
// becomes hot with old ones.
func TestRotation(t *testing.T) {
	s, random := newStream(10), rand.New(rand.NewPCG(11, 12))
	for burst := 0; s.now < int64(12*time.Second); burst++ {
		for range 50 {
			if random.IntN(50) == 0 {
				s.use("hot", 10*time.Microsecond)
			} else {
				s.use(fmt.Sprint("burst:", burst), 10*time.Microsecond)
			}
		}
	}
	s.check(t)
	if rows := s.rows(ByCommands); rows[0].Key != "hot" {
		t.Errorf("the first row is %+v", rows[0])
	}
}

// TestTurns: clients that send commands in turns are seen as they are, although the sampler looks at one in N.
func TestTurns(t *testing.T) {
	s := newStream(13)
	for i := 0; s.now < int64(11*time.Second); i++ {
		s.use([]string{"a", "w", "a", "b"}[i%4], 4*time.Microsecond)
	}
	s.check(t)
}

// TestKeysOfACommandCount: what a tracker looks at is bounded by keys, so commands of ten keys take no more of its time
// than commands of one key. A key has its share nevertheless.
func TestKeysOfACommandCount(t *testing.T) {
	s := newStream(15)
	const of = 10
	for commands := range 100_000 { // 20,000 a second
		if s.now += int64(50 * time.Microsecond); s.gap > 0 {
			s.gap--
			continue
		}
		s.Look(s.now)
		for i := range of {
			key := "hot"
			if i > 0 {
				key = strconv.Itoa(commands*of + i)
			}
			s.Add(&Access{Key: []byte(key), Bytes: 10, Node: "n"})
			s.looked++
		}
		s.gap = s.Gap()
	}
	if perSecond := float64(s.looked) / (float64(s.now) / 1e9); perSecond > 1.3*samplesPerSecond {
		t.Errorf("the tracker looked at %.0f keys a second", perSecond)
	}
	if rows := s.rows(ByCommands); len(rows) == 0 || rows[0].Key != "hot" || math.Abs(rows[0].Share-1.0/of) > 0.01 {
		t.Errorf("%+v", rows)
	}
}

// TestLoadThatFalls: after a heavy load, the tracker sees a light one within seconds.
func TestLoadThatFalls(t *testing.T) {
	s := newStream(14)
	for s.now < int64(time.Second) {
		s.use("heavy", time.Microsecond)
	}
	for range 20 { // a worker sweeps once a second
		s.Retune(s.now)
		s.gap = s.Gap()
		for range 10 {
			s.use("light", 100*time.Millisecond)
		}
	}
	if rows := s.rows(ByCommands); len(rows) != 1 || rows[0].Key != "light" || math.Abs(rows[0].Reads-10) > 2 {
		t.Errorf("%+v", rows)
	}
}

// TestBytesCount: a key with few accesses and most of the bytes is the first by bytes, and not by commands.
func TestBytesCount(t *testing.T) {
	tr, random := New(maphash.MakeSeed(), 15, 0), rand.New(rand.NewPCG(16, 17))
	now := int64(0)
	for i := range 20_000 {
		now += int64(time.Millisecond) / 4
		a := Access{Key: []byte(strconv.Itoa(random.IntN(3000))), Bytes: 100}
		switch {
		case i%100 == 1:
			a.Key = []byte("often")
		case i%1000 == 0:
			a.Key, a.Bytes, a.IsWrite = []byte("fat"), 1<<20, true
		}
		tr.Look(now)
		tr.Add(&a)
	}
	parts := []Part{tr.Part(now)}
	rows := Join(parts, ByBytes, 3)
	if rows[0].Key != "fat" || rows[0].ByBytes < 0.8 || rows[0].Writes < 3 || rows[0].Writes > 5 {
		t.Errorf("%+v", rows[0])
	}
	if rows := Join(parts, ByCommands, 1); rows[0].Key != "often" || len(rows) != 1 {
		t.Errorf("%+v", rows[0])
	}
	if rows := Join(parts, ByWrites, 10); len(rows) != 1 || rows[0].Key != "fat" {
		t.Errorf("%+v", rows)
	}
}

// TestThreadsAreJoined: keys that several threads have seen are one row. The same name in two databases is two.
func TestThreadsAreJoined(t *testing.T) {
	seed := maphash.MakeSeed()
	var parts []Part
	for thread := range uint64(2) {
		tr := New(seed, thread, 0)
		for i := range int64(1000) {
			tr.Look(i * int64(time.Millisecond))
			tr.Add(&Access{Key: []byte("k"), DB: uint16(i % 4 / 3), Client: Client{ID: thread + 1}, Node: "n"})
		}
		parts = append(parts, tr.Part(int64(time.Second)))
	}
	parts = append(parts, New(seed, 3, 0).Part(int64(time.Second)))
	rows := Join(parts, ByCommands, 10)
	if len(rows) != 2 || rows[0].DB != 0 || rows[0].Reads != 1500 || rows[1].Reads != 500 || rows[0].Share != 0.75 ||
		rows[0].ByClient != 0.5 {
		t.Errorf("%+v", rows)
	}
}

// TestLongKeys: keys that differ only behind their kept beginning are different keys, and are told apart.
func TestLongKeys(t *testing.T) {
	tr := New(maphash.MakeSeed(), 1, 0)
	long := strings.Repeat("x", 500)
	for range 10 {
		for _, tail := range []string{"1", "2"} {
			tr.Look(1)
			tr.Add(&Access{Key: []byte(long + tail)})
		}
	}
	rows := Join([]Part{tr.Part(1)}, ByCommands, 10)
	if len(rows) != 2 || rows[0].Key == rows[1].Key || rows[0].Share != 0.5 {
		t.Fatalf("%+v", rows)
	}
	for _, r := range rows {
		if !strings.HasPrefix(r.Key, long[:MaxKey]+"... (501 bytes, hash ") {
			t.Errorf("%q", r.Key)
		}
	}
}

func TestTrackingAllocatesNothing(t *testing.T) {
	tr := New(maphash.MakeSeed(), 1, 0)
	key, now := make([]byte, 8), int64(0)
	a := Access{Key: key, Bytes: 100, Client: Client{ID: 1, Addr: "a"}}
	tr.Start(Terms{Net: true, Count: 10, Ratio: 1}, now, time.UnixMilli(1))
	if n := testing.AllocsPerRun(100_000, func() {
		now += int64(time.Millisecond)
		binary.LittleEndian.PutUint64(key, uint64(now)%1_000_003)
		tr.Look(now)
		tr.Add(&a)
		a.Client.ID = uint64(now % 7)
		if tr.Gap() < 0 {
			t.Error("a gap below 0")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestForJSON(t *testing.T) {
	rows := ForJSON([]Row{{Key: "\x00", Client: Client{Name: "\xff"}}, {Key: "größe"}})
	if rows[0].Key != `"\x00"` || rows[0].Name != `"\xff"` || rows[1].Key != "größe" {
		t.Errorf("%+v", rows)
	}
}

func TestParseBy(t *testing.T) {
	for name, want := range map[string]By{
		"commands": ByCommands, "reads": ByReads, "writes": ByWrites, "bytes": ByBytes,
	} {
		if by, ok := ParseBy(name); by != want || !ok {
			t.Errorf("%s: %v", name, by)
		}
	}
	if _, ok := ParseBy("size"); ok {
		t.Error("an unknown order is known")
	}
}

func BenchmarkAdd(b *testing.B) {
	tr := New(maphash.MakeSeed(), 1, 0)
	keys := make([][]byte, 1<<16)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "user:%d", i)
	}
	a := Access{Bytes: 100, Client: Client{ID: 1}}
	for i := range b.N {
		a.Key = keys[i%len(keys)]
		tr.Look(int64(i) * 100_000)
		tr.Add(&a)
		tr.Gap()
	}
}

// TestEachRead: it names each key of database 0 once that is read often enough in the last windows, and no other.
func TestEachRead(t *testing.T) {
	now := int64(time.Hour)
	tr := New(maphash.MakeSeed(), 1, now)
	add := func(key string, db uint16, isWrite bool, times int) {
		for range times {
			tr.Look(now)
			tr.Add(&Access{Key: []byte(key), DB: db, IsWrite: isWrite})
		}
	}
	named := func(oneIn int) string {
		var all []string
		tr.EachRead(now, oneIn, func(key []byte) { all = append(all, string(key)) })
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	if got := named(1); got != "" {
		t.Errorf("of nothing: %q", got)
	}
	add("before", 0, false, 20)
	add("both", 0, false, 10)
	add(strings.Repeat("long", 30), 0, false, 20)
	now += Window
	add("both", 0, false, 10)
	add("written", 0, true, 20)
	add("elsewhere", 1, false, 20)
	if got := named(6); got != "before both" { // 20 of 100 each
		t.Errorf("one in 6: %q", got)
	}
	if got := named(4); got != "" {
		t.Errorf("one in 4: %q", got)
	}
	now += 2 * Window
	if got := named(1000); got != "" {
		t.Errorf("later: %q", got)
	}
}
