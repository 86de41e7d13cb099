package resp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// frames runs a parser over input that arrives cut at the given places, and
// writes down what it finds.
func frames(input []byte, lim *Limits, cuts ...int) string {
	var out strings.Builder
	var p Parser
	var buf []byte
	feed := func(b []byte) bool {
		buf = append(buf, b...)
		for len(buf) > 0 {
			n, st, err := p.Next(buf, lim)
			if err != nil {
				fmt.Fprintf(&out, "error %q\n", err.Error())
				return false
			}
			switch st {
			case More:
				return true
			case Ready:
				for i := range p.Len() {
					fmt.Fprintf(&out, "%q ", p.Arg(i))
				}
				fmt.Fprintf(&out, "| %q\n", p.Frame())
			}
			buf = append([]byte(nil), buf[n:]...)
		}
		return true
	}
	prev := 0
	for _, c := range append(cuts, len(input)) {
		if !feed(input[prev:c]) {
			break
		}
		prev = c
	}
	return out.String()
}

// Texts and limits: Redis 7.0 networking.c, processMultibulkBuffer and
// processInlineBuffer; the same inputs are compared with a real server in test.
func TestParser(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", `"GET" "a" | "*2\r\n$3\r\nGET\r\n$1\r\na\r\n"`},
		{"*0\r\n*-1\r\n\r\n*1\r\n$4\r\nPING\r\n", `"PING" | "*1\r\n$4\r\nPING\r\n"`},
		{"PING\r\n", `"PING" | "*1\r\n$4\r\nPING\r\n"`},
		{"set \"a\\x41b\" 'it\\'s'\n", `"set" "aAb" "it's" | "*3\r\n$3\r\nset\r\n$3\r\naAb\r\n$4\r\nit's\r\n"`},
		{"*1\rX$4\rYPINGZZ", `"PING" | "*1\r\n$4\r\nPING\r\n"`},
		{"*2\r\n$0\r\n\r\n$0\r\n\r\n", `"" "" | "*2\r\n$0\r\n\r\n$0\r\n\r\n"`},
		{"*01\r\n", `error "Protocol error: invalid multibulk length"`},
		{"*1\r\n$04\r\nPING\r\n", `error "Protocol error: invalid bulk length"`},
		{"*1\r\n$9223372036854775807\r\n", `error "Protocol error: invalid bulk length"`},
		{"*9223372036854775807\r\n$3\r\nfoo\r\n", `error "Protocol error: invalid multibulk length"`},
		{"*1\r\n$-2\r\n", `error "Protocol error: invalid bulk length"`},
		{"*1\r\n\r\n", `error "Protocol error: expected '$', got '\r'"`},
		{"*1\r\n:1\r\n", `error "Protocol error: expected '$', got ':'"`},
		{"echo \"x\r\n", `error "Protocol error: unbalanced quotes in request"`},
		{strings.Repeat("a", 70000), `error "Protocol error: too big inline request"`},
		{"*" + strings.Repeat("1", 70000), `error "Protocol error: too big mbulk count string"`},
		{"*1\r\n$" + strings.Repeat("1", 70000), `error "Protocol error: too big bulk count string"`},
		{"*1\r\n$\x00" + strings.Repeat("1", 70000), `error "Protocol error: too big bulk count string"`},
		{"*2\r\n$3\r\nGE", ""},
	} {
		if got := strings.TrimSuffix(frames([]byte(tc.in), &DefaultLimits), "\n"); got != tc.want {
			t.Errorf("%.60q: got %s, want %s", tc.in, got, tc.want)
		}
	}
}

func TestParserLimits(t *testing.T) {
	unauth := DefaultLimits.UnauthenticatedLimits()
	small := Limits{MaxBulk: 10, MaxArgs: 3, MaxInline: 20, MaxRequest: 40}
	for _, tc := range []struct {
		lim      *Limits
		in, want string
	}{
		{&unauth, "*11\r\n", "unauthenticated multibulk length"},
		{&unauth, "*1\r\n$16385\r\n", "unauthenticated bulk length"},
		{&small, "*4\r\n", "invalid multibulk length"},
		{&small, "*1\r\n$11\r\n", "invalid bulk length"},
		{&small, "a b c d\n", "invalid multibulk length"},
		{&small, "aaaaaaaaaaaaaaaaaaaaaaaaa", "too big inline"},
		{&small, "*3\r\n$9\r\n123456789\r\n$9\r\n123456789\r\n$9\r\n", "larger than limits.max_request"},
	} {
		if got := frames([]byte(tc.in), tc.lim); !strings.Contains(got, tc.want) {
			t.Errorf("%q: got %s, want %s", tc.in, got, tc.want)
		}
	}
}

// A header alone takes no memory, whatever it promises.
func TestParserTakesNoMemoryForPromises(t *testing.T) {
	in := []byte("*1048576\r\n$536870000\r\nxxxxxxxxxx")
	lim := DefaultLimits
	lim.MaxRequest = 1 << 30
	allocs := testing.AllocsPerRun(100, func() {
		var p Parser
		if _, st, err := p.Next(in, &lim); st != More || err != nil {
			t.Fatal(st, err)
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestParserAllocatesNothing(t *testing.T) {
	in := []byte("*3\r\n$3\r\nSET\r\n$5\r\nhello\r\n$5\r\nworld\r\n")
	var p Parser
	lim := DefaultLimits
	p.Next(in, &lim)
	if n := testing.AllocsPerRun(1000, func() { p.Next(in, &lim) }); n > 0 {
		t.Errorf("%v allocations for a command", n)
	}
}

// Parsing is linear: a command in one-byte pieces is not looked at again from
// its start.
func TestParserKeepsItsPlace(t *testing.T) {
	in := AppendBulk([]byte("*2\r\n$3\r\nGET\r\n"), bytes.Repeat([]byte("x"), 100000))
	var p Parser
	for n := 1; n < len(in); n++ {
		if _, st, err := p.Next(in[:n], &DefaultLimits); st != More || err != nil {
			t.Fatalf("at %d: %v %v", n, st, err)
		}
		if n > 30 && p.Need() != len(in) {
			t.Fatalf("at %d it needs %d, not %d", n, p.Need(), len(in))
		}
	}
	if n, st, err := p.Next(in, &DefaultLimits); n != len(in) || st != Ready || err != nil {
		t.Fatal(n, st, err)
	}
}

func TestTailIsTheRemainingArguments(t *testing.T) {
	var p Parser
	p.Next([]byte("*3\r\n$1\r\na\r\n$2\r\nbb\r\n$1\r\nc\r\n"), &DefaultLimits)
	for i, want := range []string{"$1\r\na\r\n$2\r\nbb\r\n$1\r\nc\r\n", "$2\r\nbb\r\n$1\r\nc\r\n", "$1\r\nc\r\n", ""} {
		if got := string(p.Tail(i)); got != want {
			t.Errorf("Tail(%d) = %q, want %q", i, got, want)
		}
	}
}

// FuzzParser: however a stream is cut, the same commands come out; what would
// be forwarded is canonical, and parses to itself.
func FuzzParser(f *testing.F) {
	for _, s := range []string{
		"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "PING\r\nset a 'b c'\r\n", "*1\r\n$04\r\nPING\r\n", "*0\r\n*-1\r\n\r\nPING\n",
		"*1\r\n$9223372036854775807\r\n", "*1\r\n$-2\r\n", "*9223372036854775807\r\n$3\r\nfoo\r\n",
		"*1\rX$4\rYPINGZZ*1\r\n$4\r\nPING\r\n", "echo \"\\x41\\n\" x\r\n", "*1\r\n$\x00",
	} {
		f.Add([]byte(s), uint64(1))
	}
	lim := Limits{MaxBulk: 1 << 16, MaxArgs: 100, MaxInline: 256, MaxRequest: 1 << 17}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		if len(in) > 4096 {
			return
		}
		whole := frames(in, &lim)
		rng := rand.New(rand.NewPCG(seed, 0))
		var cuts []int
		for at := 0; at < len(in); {
			at = min(len(in), at+1+rng.IntN(8))
			cuts = append(cuts, at)
		}
		// A line that is too long is noticed sooner or later depending on
		// how it is cut; what came before it is the same.
		cut := frames(in, &lim, cuts...)
		if whole != cut && !strings.Contains(whole+cut, "too big") {
			t.Fatalf("whole: %s\ncut: %s", whole, cut)
		}
		var p, again Parser
		for len(in) > 0 {
			n, st, err := p.Next(in, &lim)
			if err != nil || st == More {
				return
			}
			if n <= 0 || n > len(in) {
				t.Fatalf("consumed %d of %d", n, len(in))
			}
			if st == Ready {
				wide := DefaultLimits
				frame := bytes.Clone(p.Frame())
				k, st, err := again.Next(frame, &wide)
				if k != len(frame) || st != Ready || err != nil || !again.canonical ||
					!bytes.Equal(again.Frame(), frame) {
					t.Fatalf("what would be forwarded is not canonical: %q", frame)
				}
			}
			in = in[n:]
		}
	})
}

func BenchmarkParser(b *testing.B) {
	in := []byte("*2\r\n$3\r\nGET\r\n$16\r\nkey:000000012345\r\n")
	var p Parser
	lim := DefaultLimits
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		p.Next(in, &lim)
	}
}
