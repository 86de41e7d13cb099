// Package quorum owns the connections to the nodes that hold locks, and the clients' commands
// on these locks that are under way. What the nodes are asked and what their answers mean is
// the business of package quorum of the core.
package quorum
