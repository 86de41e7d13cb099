package control

import "time"

// Interval returns how long a keyway should wait between two questions to a server that keyways of this
// number ask, so that the server gets at most perSecond of these questions in a second: least, or longer.
func Interval(least time.Duration, keyways int, perSecond float64) time.Duration {
	return max(least, time.Duration(float64(keyways)/perSecond*float64(time.Second)))
}
