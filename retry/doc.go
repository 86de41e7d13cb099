// Package retry owns the limits of calls that wait to be sent again to a node that refuses them or
// cannot be reached: how long each waits, how many wait, and how many go at once. Package proxy/engine
// has the calls.
package retry
