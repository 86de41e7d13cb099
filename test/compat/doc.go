// Package compat runs unmodified clients of other languages. Their programs, one
// folder for each language, take a layout's name and three addresses: that of a
// keyway, of one that says it is a cluster, and of one of three that say so
// together. They print a line for each check:
//
//	ok LIBRARY VERSION LAYOUT CHECK
//	FAIL LIBRARY VERSION LAYOUT CHECK and why
package compat
