// Package admin owns what operators see: /metrics for Prometheus, and /healthz and /readyz
// for supervisors and load balancers, /route and other pages of JSON, over HTTP, and the queue of log lines. It reads
// copies of the counters. No package on the hot path imports it.
package admin
