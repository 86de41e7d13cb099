package transcripts

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/command"
)

var rewrite = flag.Bool("rewrite", false, "replace what the transcripts expect by what keyway does")

// TestTranscripts runs every case of every transcript.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts were found: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { testFile(t, file) })
	}
}

func testFile(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tr := parse(string(text))
	for i := range tr.cases {
		c := &tr.cases[i]
		test := func(t *testing.T) {
			preamble, lines, err := run(tr.preamble, c.lines)
			if err != nil {
				t.Fatal(err)
			}
			if *rewrite {
				tr.preamble, c.lines = preamble, lines
				return
			}
			want, got := slices.Concat(tr.preamble, c.lines), slices.Concat(preamble, lines)
			if !slices.Equal(want, got) {
				t.Errorf("- the transcript wants, + keyway does:\n%s", diff(want, got))
			}
		}
		if c.name == "" {
			test(t)
		} else {
			t.Run(c.name, test)
		}
	}
	if *rewrite && !t.Failed() {
		if err := os.WriteFile(file, []byte(tr.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTranscriptsFail checks that a transcript fails if keyway does more, less, or something
// else than it says, and that the difference is shown.
func TestTranscriptsFail(t *testing.T) {
	const right = "c1 -> GET b | PING\n    b <- GET b\nb -> v\n    c1 <- v | +PONG\n"
	for name, wrong := range map[string]string{
		"less is wanted":           strings.Replace(right, "    b <- GET b\n", "", 1),
		"more is wanted":           right + "    c1 <- w\n",
		"another order is wanted":  strings.Replace(right, "v | +PONG", "+PONG | v", 1),
		"another reply is wanted":  strings.Replace(right, "c1 <- v", "c1 <- w", 1),
		"another client is wanted": strings.Replace(right, "c1 <- v", "c2 <- v", 1),
	} {
		want := parse(wrong).cases[0].lines
		_, got, err := run(nil, want)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if slices.Equal(want, got) {
			t.Errorf("%s: the transcript passes", name)
		}
		if text := strings.Join(got, "\n") + "\n"; text != right {
			t.Errorf("%s: keyway does\n%s", name, text)
		}
		shown := diff(want, got)
		differs := strings.Contains(shown, "\n- ") || strings.Contains(shown, "\n+ ")
		if !differs || !strings.Contains(shown, "  c1 -> GET b | PING\n") {
			t.Errorf("%s: the difference is shown as\n%s", name, shown)
		}
	}
	for _, bad := range []string{
		"c1 jumps", "b -> [v", "x -> +OK", "c1 leaves", "options: none", "layout: none a", "b.9 closes",
	} {
		if _, _, err := run(nil, []string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestRepliesAreShown checks that every kind of reply is shown in the form in which a
// transcript has it.
func TestRepliesAreShown(t *testing.T) {
	for _, text := range []string{
		"v", `"two words"`, `""`, `"nil"`, "nil", "nil-array", "_", `"_"`, ":1", `":1"`, "+OK", "-ERR some text",
		",1.5", "#t", "(12345", "[]", `[a [b nil] -"ERR some text" +OK :1]`, "%[k v]", "~[a]", ">[invalidate [a]]",
		"<x*2000>", `"line\r\nend"`,
	} {
		b, err := replies(text)
		if err != nil || len(b) != 1 {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, rest, ok := cut(b[0], true); got != text || len(rest) > 0 || !ok {
			t.Errorf("%s is shown as %s", text, got)
		}
		for n := range min(len(b[0]), 100) {
			if got, _, ok := cut(b[0][:n], true); ok {
				t.Errorf("%d bytes of %s are shown as %s", n, text, got)
			}
		}
	}
}

// TestEveryBlockingCommandIsTried checks that blocking-lanes.txt has every command that may
// block on Redis 7, which the nodes of the transcripts say that they are.
func TestEveryBlockingCommandIsTried(t *testing.T) {
	text, err := os.ReadFile("testdata/blocking-lanes.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range command.ByID {
		isTried := strings.Contains(string(text), "-> "+strings.ToUpper(c.Name)+" ")
		if c.Handling == command.Block && c.Since < "8" && !isTried {
			t.Errorf("%s is missing", c.Name)
		}
	}
}
