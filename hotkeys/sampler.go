package hotkeys

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	// samplesPerSecond bounds how many accesses a thread looks at; each key of a command is one. A key with 1 % of
	// the traffic then has 80 samples a second, more or less 9.
	samplesPerSecond = 8_000
	// retuneEvery is the time after which the sampler adapts to the load.
	retuneEvery  = int64(100 * time.Millisecond)
	samplesAtOne = samplesPerSecond * retuneEvery / int64(time.Second) // of one such time
	maxRatio     = 1 << 20
)

// sampler decides which accesses a thread looks at. Each has the same chance, whatever came before it: clients
// who send the same commands in turns are seen as they are.
type sampler struct {
	random  *rand.PCG
	ratio   uint64  // one access in so many is looked at
	scale   float64 // of the gaps between two; 0: there are none
	began   int64   // when the sampler adapted last
	samples int64   // since then
}

// use looks at one access in ratio from now on.
func (s *sampler) use(ratio uint64) {
	s.ratio, s.scale = min(max(ratio, 1), maxRatio), 0
	if s.ratio > 1 {
		s.scale = 1 / math.Log1p(-1/float64(s.ratio))
	}
}

// took adapts to the load after a sample.
func (s *sampler) took(now int64) {
	s.samples++
	if now-s.began >= retuneEvery {
		s.retune(now)
	} else if s.samples >= 2*samplesAtOne { // the load has just risen
		s.use(2 * s.ratio)
		s.samples /= 2 // as many as there were at this ratio
	}
}

// retune adapts to the load since the last time.
func (s *sampler) retune(now int64) {
	accesses := float64(s.samples) * float64(s.ratio)
	perSecond := accesses * float64(time.Second) / float64(max(now-s.began, 1))
	s.use(uint64(math.Ceil(perSecond / samplesPerSecond)))
	s.began, s.samples = now, 0
}

// gap returns how many accesses to pass over until the next one to look at: a geometric distribution.
func (s *sampler) gap() int {
	if s.scale == 0 {
		return 0
	}
	u := float64(s.random.Uint64()>>11+1) / (1 << 53) // above 0, at most 1
	return int(math.Log(u) * s.scale)
}

// hits returns true with the chance part/all.
func (s *sampler) hits(part, all uint64) bool {
	return float64(s.random.Uint64()>>11)*float64(all) < float64(part)*(1<<53)
}
