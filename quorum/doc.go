// Package quorum owns locks that are held by a majority of independent nodes: which keys are
// such locks, what the nodes are asked, and what the nodes' answers mean for the client. An
// [Op] is one command of a client on one lock: a state machine that gets the nodes' answers
// and the time as arguments, and returns what to send to which node.
//
// docs/decisions/0009-locks-on-a-majority.md says which rules it follows, and why.
package quorum
