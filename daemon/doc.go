// Package daemon alone owns the process of keyway serve, from its start to its end: which pools it
// serves, how it reloads, is upgraded in place and stops, what it logs and shows at the admin address,
// and how it takes part in changes of the layout. Commands and what they print are in cmd/keyway.
package daemon
