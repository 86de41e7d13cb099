// Package compat runs unmodified clients of other languages. Their programs, one
// folder for each language, take a host, a port and a layout's name and print a
// line for each check:
//
//	ok LIBRARY VERSION LAYOUT CHECK
//	FAIL LIBRARY VERSION LAYOUT CHECK and why
package compat
