// Package clients owns how clients are described, selected and shown to operators: the names
// that they announce, the lines of CLIENT LIST, the options of CLIENT LIST and CLIENT KILL,
// and the lines of MONITOR.
package clients
