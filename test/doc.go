// Package test owns the tests that cross packages: keyway in front of real redis-server
// processes and real clients, and the rules for the code.
package test
