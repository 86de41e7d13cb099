// Package guard owns one question: do the nodes' keys lie where the layout says, for this
// keyway and for the others that serve the same nodes? It samples the keys of standalone
// nodes, counts those that the routing table places on another node, and refuses to start
// over nodes whose keys clients would not find. While keyway runs it looks again every hour,
// and only reports. It finds other keyways by the names of their connections, which have a
// hash of all that decides where keys go. It knows no server and no configuration file.
package guard
