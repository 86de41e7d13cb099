// Package topology owns finding out which servers there are and what each of them
// is, where the configuration leaves that to others: who owns which slot of a Redis
// Cluster, and which master sentinels have chosen. It follows both. It is the
// control plane: go-redis, one plain client for each server, retries off, every
// question bounded in time and put to several at once. (go-redis's own ClusterClient
// executes writes again on errors and asks nodes one after another; its
// FailoverClient believes the first sentinel that answers.)
package topology
