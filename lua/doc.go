// Package lua owns what keyway knows about Lua scripts: the texts that clients have sent,
// what a text says about itself (whether it writes, whether it treats each of its KEYS
// alone), and which nodes have run which script. A [Cache] is that knowledge of one thread.
//
// A node is known by a number that its caller chooses. The package sends nothing: it returns
// the frames to send.
package lua
