// Package buffer owns the memory that the clients of a thread share: unused buffers by
// size ([Pool]), what a client has not taken yet ([Output]), and replies that wait for
// their turn ([Parked]). An idle client holds none of it.
//
// What is kept for reuse is bounded. A pool counts what it lets go of as garbage, so
// that the process can return it to the system.
package buffer
