// Package passwords runs the commands that print passwords, such as the short-lived tokens of clouds,
// and runs them again before these expire.
package passwords
