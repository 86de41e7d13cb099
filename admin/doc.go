// Package admin owns what operators see: over HTTP /metrics for Prometheus, /healthz
// and /readyz for whoever starts and stops keyway, and the log, for which nobody
// waits. It reads copies of the counters; no hot package knows of it.
package admin
