package terminal

import (
	"fmt"
	"strconv"
	"time"
)

// count returns a number or a rate in at most six characters.
func count(x float64) string {
	switch {
	case x <= 0:
		return "0"
	case x < 9.95:
		return strconv.FormatFloat(x, 'f', 1, 64)
	case x < 99_999.5:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x < 9_999_500:
		return strconv.FormatFloat(x/1e3, 'f', 0, 64) + "k"
	}
	return strconv.FormatFloat(x/1e6, 'f', 0, 64) + "M"
}

// size returns a number of bytes in at most seven characters.
func size(x float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	i := 0
	for x >= 999.5 && i < len(units)-1 {
		x /= 1024
		i++
	}
	digits := 0
	if i > 0 && x < 9.95 {
		digits = 1
	}
	return strconv.FormatFloat(x, 'f', digits, 64) + " " + units[i]
}

// latency returns a duration in seconds in at most seven characters.
func latency(seconds float64) string {
	switch ms := seconds * 1e3; {
	case ms <= 0:
		return "-"
	case ms < 9.995:
		return strconv.FormatFloat(ms, 'f', 2, 64) + " ms"
	case ms < 999.5:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	}
	return strconv.FormatFloat(seconds, 'f', 1, 64) + " s"
}

// age returns how long something lasts, such as 3h12m.
func age(seconds float64) string {
	d := time.Duration(min(max(seconds, 0), 1e9) * float64(time.Second))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) + " %" }
