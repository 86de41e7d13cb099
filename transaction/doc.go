// Package transaction owns transactions as nodes get them: everything from MULTI to EXEC in one write, and
// the error for the client if the node discards it.
package transaction
