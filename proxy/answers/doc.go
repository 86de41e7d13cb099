// Package answers owns the commands that keyway answers by itself, and those whose replies it
// makes out of the nodes': PING, HELLO, CLIENT, CONFIG GET, INFO, SCAN, SLOWLOG, MONITOR,
// CLIENT PAUSE, and CLUSTER where keyway emulates one.
package answers
