// Package txn owns transactions: what clients queue between MULTI and EXEC, and WATCH.
package txn
