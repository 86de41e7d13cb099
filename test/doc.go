// Package test holds what crosses packages: keyway against real redis-server
// processes and real clients, the simulation, the house rules.
package test
