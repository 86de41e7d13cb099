// Package router owns the answer to "which node": a [Table] is one immutable
// snapshot of the nodes and of the layout that spreads keys over them (hash
// slots, ring, range or modulo). A layout changes by swapping the whole table,
// never by changing one; a table may be read from any goroutine.
package router
