// Package acl owns the users of keyway: their passwords, their rules in Redis's ACL language,
// and whether a user may run a command.
//
// A [Users] and its users never change once they are made, so that threads can share them. A
// reload makes new ones, and so do ACL SETUSER and DELUSER. The rules are those of Redis 7.0 (acl.c).
package acl
