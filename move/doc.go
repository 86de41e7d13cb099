// Package move moves keys between nodes for commands of operators. Package transfer says what is
// sent and what the replies prove; package move owns the connections, and says what has failed,
// at which node, and what to do about it. It also makes visible to others that keys move.
package move
