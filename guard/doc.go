// Package guard owns one question: do the nodes' keys lie where the layout says? It samples
// the keys of standalone nodes, counts those that the routing table places on another node,
// and refuses to start over nodes whose keys clients would not find. While keyway runs it
// looks again every hour, and only reports. It knows no server and no configuration file.
package guard
