// Package demo owns the demo: nodes in memory, keyway in front of them, keys that show where keyway
// puts them, and a small load.
package demo
