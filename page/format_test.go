package page

import (
	"strings"
	"testing"
	"time"
)

// TestFigures: figures are short, and say their unit.
func TestFigures(t *testing.T) {
	for got, want := range map[string]string{
		number(0): "0", number(0.25): "0.25", number(12.34): "12.3", number(999.4): "999", number(1234): "1,234",
		number(48210):   "48.2 k",
		number(999_499): "999 k", number(999_600): "1 M", number(7.8e9): "7.8 G", size(0): "0 B", size(999): "999 B",
		size(1000): "0.98 KB", size(412 << 20): "412 MB", size(5 << 40): "5 TB", latency(0): "–",
		latency(0.00031): "310 µs",
		latency(0.0019):  "1.9 ms", latency(2): "2 s", percent(0): "0 %", percent(0.0001): "<0.1 %",
		percent(0.333): "33.3 %",
		percent(1):     "100 %", span(0): "0 s", span(59 * time.Second): "59 s", span(125 * time.Second): "2 min 5 s",
		span(26 * time.Hour): "1 d 2 h", span(15 * time.Hour): "15 h", grouped(-1234567): "-1,234,567", grouped(0): "0",
		counted(1, "node"): "1 node", counted(2000, "node"): "2,000 nodes",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestShown: what others have chosen is shown in one line, whole if it is short, and bounded.
func TestShown(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "user:1": "user:1", "ключ 键": "ключ 键", "a\nb\x00": `a\nb\x00`, "\xff": `\xff`,
		"\u200b\u202e": `\u200b\u202e`,
		`a\b"c'`:       `a\b"c'`, strings.Repeat("é", 100): strings.Repeat("é", 100),
	} {
		if got := shown(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	long := shown(strings.Repeat("x", 64<<20))
	if len(long) > 200 || !strings.HasSuffix(long, "… (64 MB more)") {
		t.Errorf("%d bytes: %s", len(long), long)
	}
	if got := shown(strings.Repeat("\xff", 1000)); len(got) > 200 {
		t.Errorf("%d bytes of a key that is no text", len(got))
	}
}

// TestSpark: a sparkline has a point for each five seconds, ends at the right edge, and loses no peak.
func TestSpark(t *testing.T) {
	values := make([]float64, 900)
	values[450] = 8
	s := sparkOf(values, number)
	if n := strings.Count(s.Line, "L"); n != 179 || !strings.Contains(s.Line, " 3.0") || !strings.HasSuffix(s.Line,
		"L180.0 38.0") {
		t.Errorf("%d points: %s", n, s.Line)
	}
	if s.Words != "0 to 8" {
		t.Errorf("it says %q", s.Words)
	}
	if s = sparkOf([]float64{0, 0.002}, latency); s.Words != "up to 2 ms, since 2 s ago" {
		t.Errorf("it says %q", s.Words)
	}
	if s = sparkOf([]int64{5, 5, 5}, number); s.Words != "always 5, since 3 s ago" {
		t.Errorf("it says %q", s.Words)
	}
	if s = sparkOf[float64](nil, number); s.Line != "" || s.Words != "no figures yet" {
		t.Errorf("without figures: %+v", s)
	}
}

// TestAgo: how long ago something was is rough, and changes with the minutes of the clock.
func TestAgo(t *testing.T) {
	now := time.Date(2026, 11, 28, 14, 30, 20, 0, time.UTC)
	for before, want := range map[time.Duration]string{
		0: "just now", 20 * time.Second: "just now", 21 * time.Second: "1 min ago", 5 * time.Minute: "5 min ago",
		-time.Hour: "just now", 59*time.Minute + 20*time.Second: "59 min ago", 25 * time.Hour: "1 d ago",
		3*time.Hour + 59*time.Minute: "3 h ago",
	} {
		if got := ago(now.Add(-before), now); got != want {
			t.Errorf("%s ago: %s, want %s", before, got, want)
		}
	}
}
