// Package traces makes OpenTelemetry's traces of the journeys of commands, and sends them to a collector. It waits
// for no collector: what cannot be sent is counted and dropped.
package traces
