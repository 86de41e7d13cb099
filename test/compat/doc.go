// Package compat runs unmodified clients of other languages. Their programs, one
// folder for each language, take a layout's name and three addresses: that of a
// keyway, of one that says it is a cluster, and of one of three that say so
// together. With COMPAT_CA or COMPAT_USER in their environment, only the client of one server
// runs, of one library: over TLS, with the authority in that file, or as that user with
// COMPAT_PASSWORD, who may use only keys that begin with "app:". They print a line for each check:
//
//	ok LIBRARY VERSION LAYOUT CHECK
//	FAIL LIBRARY VERSION LAYOUT CHECK and why
package compat
