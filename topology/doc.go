// Package topology owns the questions to servers about what the configuration does not say:
// which servers a Redis Cluster has, which of them owns which slot, and which master
// sentinels have chosen. It follows both as they change. It also inspects single nodes:
// their role, mode and version.
//
// It is the control plane. It uses go-redis, one plain client for each server, without
// retries. Every question is bounded in time and goes to several servers at once.
// (go-redis's own ClusterClient repeats writes after errors and asks nodes one after
// another; its FailoverClient believes the first sentinel that answers.)
package topology
