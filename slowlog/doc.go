// Package slowlog owns what clients can learn about slow commands: the entries of SLOWLOG,
// the history and the histograms of LATENCY, the settings for them, and the replies that
// show them.
//
// Durations are how long clients of keyway wait: from reading a command until its reply is
// complete. This includes the node and the network. Each thread has a [Log]; a reply
// merges the logs of all threads.
package slowlog
