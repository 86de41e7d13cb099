// Package options owns the settings of a worker: what a configuration says, in the core's terms, and the
// defaults.
package options
