// Package info owns what servers say about themselves: the texts of INFO, which it reads,
// adds up for several nodes and writes for keyway, and the reply to HELLO.
//
// To its clients, keyway looks like a single Redis. INFO shows the nodes' data, keyway's
// clients and process, and a section of keyway's own. HELLO shows the nodes' software.
package info
