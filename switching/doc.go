// Package switching alone owns what a switch of the layout writes to the nodes' registers, and in
// which order. It has no memory: each step is decided by what the nodes say, can be repeated, and
// may be done by several processes at once, of which any may die between two commands.
//
//	Plan --> Hold... --> Decide --> Flip each node --> Drained for each old node --> Done
//
// The records of a change are on its home, the first node by name of the old layout, or the owner of
// slot 0 if that is a cluster; see package register. See docs/decisions/0012-flip.md.
package switching
