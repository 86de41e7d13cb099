// Package metrics owns the counters and histograms of the threads: their names and
// help texts in /metrics, their fields in INFO, and how the values of several threads are
// merged.
//
// Each thread has its own [Counters]. Only that thread increments and reads them. Other
// threads get copies, each a [Snapshot], and add them up with [Sum].
//
// The tags of a field in table.go define everything else, so a new counter is one line
// there, and one help text for a new metric:
//
//	metric  the name in /metrics, without "keyway_"; a uint64 is a counter, any other type a gauge
//	label   "reason=slow": the label that distinguishes fields with the same metric
//	by      the label that distinguishes the elements of a slice, such as "command"
//	of      "replicas": the metric exists for replicas only
//	info    the field of INFO that the value replaces
//	own     the field in INFO's section Keyway
//	merge   how the values of two threads are merged: "max", "all" (true if both are true)
//	        or "first" (the first that is not empty); numbers without this tag are added
package metrics
