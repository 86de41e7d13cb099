// Package wiring owns the way from a configuration to what runs: the routing table, the
// followers that ask a cluster or sentinels for a newer one, the workers' settings, and the
// server that has them all. Every command of keyway gets them here, so that check refuses
// what serve would refuse, and route places keys where serve would.
package wiring
