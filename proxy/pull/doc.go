// Package pull is a part of a worker. While the layout changes, it brings the keys of clients'
// commands from the nodes that owned them to those that own them now, before the commands begin.
// It owns which keys are known to have left, and the connections over which keys move. The order
// of the commands that move a key is the business of package transfer.
package pull
