// Package metrics owns what threads count: the counters and histograms, their names
// and help texts in /metrics, their fields in INFO, and how they add up over threads.
//
// Each thread has its own [Counters] and increments their fields; nobody else reads
// them. Other threads get copies, each a [Snapshot], and add them up with [Sum].
//
// The fields' tags in table.go say the rest, so a new counter is one line there:
//
//	metric  its name in /metrics, without "keyway_"; a uint64 is a counter, all else a gauge
//	help    its help text; fields with the same metric share the first one's
//	label   "reason=slow": the label that tells fields with the same metric apart
//	by      the label that tells the elements of a slice apart, such as "command"
//	of      "replicas": the metric exists for replicas only
//	info    the field of INFO that it replaces
//	own     its field in INFO's section Keyway
//	merge   how values of two threads become one: "max", "all" (of two bools, and) or
//	        "first" (the first that is not empty); numbers without it are added
package metrics
