// Package plan owns what a change of the configuration would do to the keys on the nodes:
// how many keys and bytes would move from which node to which, and what would stand in
// the way. It asks the nodes, and changes nothing there: it only creates one small key for
// a moment, to learn whether values of one node can be restored on another.
package plan
