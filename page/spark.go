package page

import (
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	sparkSeconds = 900 // that a sparkline spans
	sparkStep    = 5   // seconds for each of its points
	sparkWidth   = sparkSeconds / sparkStep
	sparkHeight  = 40
)

// Spark is a sparkline: the path of its line, that of the area below, and what it says in words.
type Spark struct {
	Line, Area string
	Words      string
}

// sparkOf returns the sparkline of the last fifteen minutes. values are a second apart, and the last one is of now.
// Each point is the largest of its five seconds, so that no peak is lost.
func sparkOf[N ~float32 | ~float64 | ~int32 | ~int64](values []N, format func(float64) string) Spark {
	values = values[max(0, len(values)-sparkSeconds):]
	least, most := math.Inf(1), 0.0
	for _, v := range values {
		least, most = min(least, float64(v)), max(most, float64(v))
	}
	if len(values) < 2 {
		return Spark{Words: "no figures yet"}
	}
	var line strings.Builder
	first, last := 0.0, 0.0
	for end := len(values) % sparkStep; end <= len(values); end += sparkStep {
		if end == 0 {
			continue
		}
		top := 0.0
		for _, v := range values[max(0, end-sparkStep):end] {
			top = max(top, float64(v))
		}
		x := float64(sparkWidth) - float64(len(values)-end)/sparkStep
		y := float64(sparkHeight - 2)
		if most > 0 {
			y -= top / most * (sparkHeight - 5)
		}
		letter := "L"
		if line.Len() == 0 {
			letter, first = "M", x
		}
		last = x
		fmt.Fprintf(&line, "%s%.1f %.1f", letter, x, y)
	}
	area := fmt.Sprintf("%sL%.1f %dL%.1f %dZ", line.String(), last, sparkHeight, first, sparkHeight)
	words := format(least) + " to " + format(most)
	switch {
	case format(least) == format(most):
		words = "always " + format(most)
	case format(least) == format(0) && format(0) != "0":
		words = "up to " + format(most) // a latency of 0 says that nothing was measured
	}
	if len(values) < sparkSeconds-sparkStep {
		words += ", " + "since " + span(time.Duration(len(values))*time.Second) + " ago"
	}
	return Spark{line.String(), area, words}
}
