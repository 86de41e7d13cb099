// Package overview owns what is known of a running pool at a glance: its figures over the last
// fifteen minutes, a second apart, and its last changes.
//
// A [Sampler] reads the counters of all threads once a second, and makes a [State] on request without
// asking a thread. Its memory is bounded: it keeps ten seconds of what each node counts, and fifteen minutes
// of a few numbers for the pool. A [Recorder] keeps the last changes. It gets them from the log.
package overview
