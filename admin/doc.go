// Package admin owns what operators see: over HTTP /metrics for Prometheus and
// /healthz and /readyz for supervisors and load balancers, and the queue of log lines.
// It reads copies of the counters; no hot package knows of it.
package admin
