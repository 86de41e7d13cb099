package hotkeys

import (
	"fmt"
	"hash/maphash"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// TestSessionCoversItsTime: a session counts what happens from its start until its end, which DURATION may say, and a
// session after it begins anew. Two databases' keys of the same name are one, as with Redis.
func TestSessionCoversItsTime(t *testing.T) {
	tr, now := New(maphash.MakeSeed(), 1, 0), int64(0)
	use := func(key string, db uint16, bytes uint64) {
		now += int64(time.Millisecond)
		tr.Look(now)
		tr.Add(&Access{Key: []byte(key), DB: db, Bytes: bytes})
	}
	check := func(want string) {
		t.Helper()
		text := string(AppendSession(nil, resp.V2, []*Collected{tr.Collected(now), nil}))
		text = strings.NewReplacer("\r\n$", " $", "\r\n:", " :", "\r\n", " ").Replace(text)
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	check("$-1")
	use("early", 0, 10)
	tr.Start(Terms{Net: true, Count: 2, Duration: time.Second, Ratio: 2}, now, time.UnixMilli(77))
	for range 3 {
		use("k", 0, 10)
		use("k", 1, 10)
		use("other", 0, 8)
		use("third", 0, 2)
	}
	check("tracking-active :1")
	check("$29 collection-start-time-unix-ms :77 $22 collection-duration-ms :12 $15 total-net-bytes :45 " +
		"$12 by-net-bytes *4 $1 k :30 $5 other :12 ")
	now = int64(time.Second + 2*time.Millisecond) // DURATION has passed
	use("k", 0, 1000)
	check("tracking-active :0")
	check("collection-duration-ms :1000 $15 total-net-bytes :45")
	tr.Start(Terms{Net: true, Count: 2, Ratio: 1}, now, time.UnixMilli(78))
	use("k", 0, 1000)
	tr.Stop(now)
	use("k", 0, 1)
	check("collection-duration-ms :1 $15 total-net-bytes :1000 $12 by-net-bytes *2 $1 k :1000")
	tr.Reset()
	check("$-1")
}

// TestSessionFindsWhatIsHot: among many keys, those with the most bytes are listed with their bytes, although a
// session lasts for long and keeps few keys.
func TestSessionFindsWhatIsHot(t *testing.T) {
	tr, now := New(maphash.MakeSeed(), 1, 0), int64(0)
	tr.Start(Terms{Net: true, Count: 2, Ratio: 1}, 0, time.UnixMilli(1))
	key := make([]byte, 0, 16)
	for i := range 200_000 { // in 200 seconds: the tracker looks at each
		now += int64(time.Millisecond)
		tr.Look(now)
		a := Access{Key: fmt.Appendf(key[:0], "cold:%d", i), Bytes: 100}
		switch {
		case i%100 == 0:
			a.Key = []byte("often")
		case i%1000 == 1:
			a.Key, a.Bytes = []byte("fat"), 100_000
		}
		tr.Add(&a)
	}
	keys := map[string]uint64{}
	for _, k := range tr.Collected(now).keys {
		keys[k.name] = k.bytes
	}
	// A key may be missed before it is in the table.
	for name, all := range map[string]uint64{"often": 2000 * 100, "fat": 200 * 100_000} {
		if got := keys[name]; got > all || got < all*8/10 {
			t.Errorf("%s has %d bytes, not %d", name, got, all)
		}
	}
}
