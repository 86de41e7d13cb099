// Package topology owns finding out who owns which slot of a Redis Cluster, and
// following it. It is the control plane: go-redis, one plain client for each
// node, retries off, every question bounded in time and put to several nodes at
// once. (go-redis's own ClusterClient executes writes again on errors and asks
// nodes one after another.)
package topology
