// Package router owns the answer to one question: which node has a key? A
// [Table] is an immutable snapshot of the nodes and of the layout that places keys on them:
// hash slots, ring, range or modulo. A change of the layout replaces the whole table. A
// table may be read from any goroutine.
package router
