package page

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxShown    = 100 // characters of a key or a name
	maxSentence = 600 // of a text that keyway has made, with what others have chosen in it
)

// shown returns a text that others have chosen, such as a key, for people: in one line, bounded, and without
// characters that are not printed or that change how others are, such as those for writing from right to left.
func shown(text string) string { return printable(text, maxShown) }

// sentence is shown for a text that keyway has made.
func sentence(text string) string { return printable(text, maxSentence) }

func printable(text string, most int) string {
	var b strings.Builder
	for count := 0; len(text) > 0; {
		r, width := utf8.DecodeRuneInString(text)
		char := text[:width]
		if r == utf8.RuneError && width == 1 {
			char = fmt.Sprintf(`\x%02x`, text[0])
		} else if !strconv.IsPrint(r) {
			quoted := strconv.QuoteRune(r)
			char = quoted[1 : len(quoted)-1]
		}
		if count += utf8.RuneCountInString(char); count > most {
			fmt.Fprintf(&b, "… (%s more)", size(float64(len(text))))
			break
		}
		b.WriteString(char)
		text = text[width:]
	}
	return b.String()
}

// typed returns the key that somebody has typed. Between double quotes, it may have the escapes that redis-cli
// prints and reads, such as "\x00".
func typed(text string) string {
	if len(text) > 1 && text[0] == '"' && text[len(text)-1] == '"' {
		if key, err := strconv.Unquote(text); err == nil {
			return key
		}
	}
	return text
}

// grouped writes a whole number with a comma before each three digits.
func grouped(n int64) string {
	digits := strconv.FormatInt(max(n, -n), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if n < 0 {
		return "-" + digits
	}
	return digits
}

// digits writes a number with three digits that count, or more if it has them before the point.
func digits(x float64) string {
	places := 2
	if x >= 9.995 {
		places = 1
	}
	if x >= 99.95 {
		places = 0
	}
	text := strconv.FormatFloat(x, 'f', places, 64)
	if places > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// number writes a count or a rate.
func number(x float64) string {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "–"
	case x >= 999_500_000:
		return digits(x/1e9) + " G"
	case x >= 999_500:
		return digits(x/1e6) + " M"
	case x >= 10_000:
		return digits(x/1e3) + " k"
	case x >= 1000:
		return grouped(int64(math.Round(x)))
	}
	return digits(x)
}

// size writes a number of bytes.
func size(bytes float64) string {
	for i, unit := range []string{"B", "KB", "MB", "GB"} {
		if below := math.Pow(1024, float64(i)); bytes < 999.5*below {
			if i == 0 {
				return fmt.Sprintf("%.0f B", bytes)
			}
			return digits(bytes/below) + " " + unit
		}
	}
	return digits(bytes/(1<<40)) + " TB"
}

// latency writes a short time in seconds. 0 means that nothing was measured.
func latency(seconds float64) string {
	switch {
	case seconds <= 0 || math.IsNaN(seconds):
		return "–"
	case seconds < 0.0009995:
		return digits(seconds*1e6) + " µs"
	case seconds < 0.9995:
		return digits(seconds*1e3) + " ms"
	}
	return digits(seconds) + " s"
}

// percent writes a share in [0, 1].
func percent(share float64) string {
	if share > 0 && share < 0.0005 {
		return "<0.1 %"
	}
	return strings.TrimSuffix(strconv.FormatFloat(share*100, 'f', 1, 64), ".0") + " %"
}

// span writes how long something lasts, in one or two units.
func span(d time.Duration) string {
	seconds := int64(max(d, 0) / time.Second)
	units := []struct {
		seconds int64
		name    string
	}{{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}}
	for i, u := range units {
		if seconds < u.seconds && u.seconds > 1 {
			continue
		}
		text := fmt.Sprintf("%d %s", seconds/u.seconds, u.name)
		if i+1 < len(units) && seconds/u.seconds < 10 && seconds%u.seconds >= units[i+1].seconds {
			next := units[i+1]
			text += fmt.Sprintf(" %d %s", seconds%u.seconds/next.seconds, next.name)
		}
		return text
	}
	return "0 s"
}

// ago says roughly how long ago a moment was. It changes when a minute of the clock begins, for all moments at once, so
// that a list of them is seldom sent again.
func ago(at, now time.Time) string {
	switch d := now.Truncate(time.Minute).Sub(at.Truncate(time.Minute)); {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	default:
		return fmt.Sprintf("%d d ago", d/(24*time.Hour))
	}
}

// clock writes a moment as the time of the day, with the date if that is another day than now's.
func clock(at, now time.Time) string {
	at = at.In(now.Location())
	if at.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return at.Format(time.TimeOnly)
	}
	return at.Format("Jan 2 15:04:05")
}

// counted writes a number and its noun, in the singular or the plural.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return grouped(int64(n)) + " " + noun + "s"
}
