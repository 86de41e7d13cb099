// Package mover alone owns who moves the keys of a change of the layout that clients do not use, and
// how others see how far that is. Any process that knows the change may call Run. Of all that do, one
// moves keys, and another takes its place when that one dies, freezes or cannot reach a node. Two at
// once do no harm. See docs/decisions/0014-mover.md.
package mover
