package resp

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// replies scans input cut at the given places and writes down where replies
// end, as counts from the start.
func replies(in []byte, cuts ...int) string {
	var out strings.Builder
	var s Scanner
	at, prev := 0, 0
	for _, c := range append(cuts, len(in)) {
		for b := in[prev:c]; len(b) > 0; {
			n, done, err := s.Scan(b)
			if err != nil {
				fmt.Fprint(&out, "error")
				return out.String()
			}
			if n <= 0 {
				return "stuck"
			}
			at += n
			b = b[n:]
			if done {
				fmt.Fprintf(&out, "%c%d ", s.Kind(), at)
			}
		}
		prev = c
	}
	if s.Midway() {
		out.WriteString("midway")
	}
	return strings.TrimSpace(out.String())
}

// Types: https://redis.io/docs/latest/develop/reference/protocol-spec/
func TestScanner(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"+OK\r\n:1\r\n$5\r\nhello\r\n$-1\r\n", "+5 :9 $20 $25"},
		{"-ERR x\r\n", "-8"},
		{"*2\r\n$1\r\na\r\n*1\r\n:1\r\n+x\r\n", "*19 +23"},
		{"*0\r\n*-1\r\n$0\r\n\r\n", "*4 *9 $15"},
		{"*2\r\n$9\r\n123456789\r\n$10\r\n1234567890\r\n+x\r\n", "*36 +40"},
		{"*2\r\n$2\r\nab\r\n$100\r\n" + strings.Repeat("x", 100) + "\r\n+x\r\n", "*120 +124"},
		{"*2\r\n$01\r\na\r\n$1\r\nbc\n", "error"}, {"*2\r\n$1\ra\r\n", "error"}, {"*2\r\n$12\ra\r\n", "error"},
		{"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n#t\r\n", "%24"},
		{"~1\r\n,1.5\r\n_\r\n(123\r\n=7\r\ntxt:abc\r\n!3\r\nbad\r\n", "~10 _13 (19 =32 !41"},
		{"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n+OK\r\n", "$21 +26"},
		{"*1\r\n|1\r\n+a\r\n:1\r\n:2\r\n", "*20"},
		{">2\r\n+invalidate\r\n*0\r\n", ">21"},
		{"*2\r\n:1\r\n", "midway"},
		{":-1\r\n", ":5"},
		{"$3\r\nabcd\r\n", "error"}, {"$-2\r\n", "error"}, {"?\r\n", "error"}, {":\r\n", "error"}, {"*x\r\n", "error"},
		{"$99999999999999999999\r\n", "error"}, {"%-1\r\n", "error"}, {"+a\rb", "error"},
		{":1 \r\n", "error"}, {"$4611686018427387904\r\n", "error"},
		{"+" + strings.Repeat("x", 70_000), "midway"},
		{strings.Repeat("*1\r\n", 1_000_000) + ":1\r\n+x\r\n", "*4000004 +4000008"}, // a script can nest 8,000 levels
		{strings.Repeat("*1\r\n", 1025), "midway"},
		{strings.Repeat("%1\r\n+k\r\n", 8000) + "_\r\n", "%64003"},
		{"*2\r\n|0\r\n|1\r\n+k\r\n|1\r\n+a\r\n+b\r\n+v\r\n:1\r\n:2\r\n+x\r\n", "*40 +44"},
		{"|1\r\n+k\r\n*1\r\n+v\r\n|0\r\n|1\r\n+k\r\n+v\r\n_\r\n", "_35"}, {"|1\r\n+k\r\n+v\r\n", "midway"},
		{"*2\r\n*-1\r\n$-1\r\n-ERR x\r\n", "*14 -22"}, {"*3\r\n_\r\n-x\r\n_\r\n_\r\n", "*14 _17"},
		{":123456789012345678\r\n:-1234567890123456789\r\n", ":21 :44"},
		{"*4294967297\r\n", "error"}, {"*4294967296\r\n*4294967296\r\n*4294967296\r\n", "error"},
	} {
		if got := replies([]byte(tc.in)); got != tc.want {
			t.Errorf("%.60q: got %s, want %s", tc.in, got, tc.want)
		}
	}
}

func TestScannerCutAnywhere(t *testing.T) {
	in := []byte("*3\r\n$5\r\nhello\r\n:-12\r\n*2\r\n+a\r\n$-1\r\n|1\r\n+k\r\n+v\r\n%1\r\n$1\r\nk\r\n,1.5\r\n")
	want := replies(in)
	for i := range in {
		for j := i; j < len(in); j++ {
			if got := replies(in, i, j); got != want {
				t.Fatalf("cut at %d and %d: %s, want %s", i, j, got, want)
			}
		}
	}
}

func TestScannerAllocatesNothing(t *testing.T) {
	in := []byte("$5\r\nhello\r\n*2\r\n*1\r\n:1\r\n%1\r\n+k\r\n$-1\r\n")
	if n := testing.AllocsPerRun(1000, func() {
		for rest, ok := in, true; ok; {
			_, rest, ok = Split(rest)
		}
	}); n > 0 {
		t.Errorf("%v allocations for two replies", n)
	}
}

// FuzzScanner: however a stream is cut, replies end at the same places.
func FuzzScanner(f *testing.F) {
	for _, s := range []string{"+OK\r\n$5\r\nhello\r\n", "*2\r\n$1\r\na\r\n*-1\r\n", "%1\r\n+a\r\n~1\r\n#t\r\n",
		"|1\r\n+a\r\n+b\r\n:1\r\n", "$99999999999999999999\r\n", "*1\r\n*1\r\n*1\r\n",
		"*3\r\n$-1\r\n-ERR x\r\n*-1\r\n_\r\n"} {
		f.Add([]byte(s), uint64(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		if len(in) > 4096 {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		var cuts []int
		for at := 0; at < len(in); {
			at = min(len(in), at+1+rng.IntN(8))
			cuts = append(cuts, at)
		}
		whole, cut := replies(in), replies(in, cuts...)
		if whole != cut || strings.Contains(whole, "stuck") {
			t.Fatalf("whole: %s\ncut: %s", whole, cut)
		}
	})
}

func BenchmarkScanner(b *testing.B) {
	in := []byte("$64\r\n" + strings.Repeat("x", 64) + "\r\n")
	var s Scanner
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		s.Scan(in)
	}
}

// BenchmarkScanList scans a list of 600 short elements.
func BenchmarkScanList(b *testing.B) {
	in := []byte("*600\r\n" + strings.Repeat("$3\r\nxxx\r\n", 600))
	var s Scanner
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		s.Scan(in)
	}
}

// TestScannerPassesOverPayload: bytes inside a string may be left out, wherever they are, and the reply ends at the
// same place.
func TestScannerPassesOverPayload(t *testing.T) {
	long := strings.Repeat("a\r\n$3\r\nb", 20)
	replies := []string{
		fmt.Sprintf("$%d\r\n%s\r\n", len(long), long),
		fmt.Sprintf("*3\r\n:1\r\n$%d\r\n%s\r\n*1\r\n$%d\r\n%s\r\n", len(long), long, len(long), long),
		fmt.Sprintf("%%1\r\n+k\r\n=%d\r\ntxt:%s\r\n", len(long)+4, long),
	}
	for _, reply := range replies {
		for range 500 {
			var s Scanner
			passed := 0
			for at := 0; ; {
				if inside := int(s.Payload()); inside > 1 {
					n := 1 + rand.IntN(inside-1)
					s.Skip(n)
					at += n
					passed += n
				}
				n, done, err := s.Scan([]byte(reply[at:min(len(reply), at+1+rand.IntN(30))]))
				at += n
				if err != nil {
					t.Fatalf("at %d of %q: %v", at, reply, err)
				}
				if done {
					if at != len(reply) {
						t.Fatalf("%q ends after %d bytes", reply, at)
					}
					break
				}
			}
			if passed == 0 {
				t.Fatal("nothing was left out")
			}
		}
	}
}
