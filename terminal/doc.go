// Package terminal owns how a running keyway is shown in a terminal.
package terminal
