// Package buffer owns the memory that the clients of a thread share: unused buffers by
// size ([Pool]), output that a client has not read yet ([Output]), and replies that wait
// for earlier ones ([Parked]). An idle client uses none of it.
//
// A pool keeps a bounded number of unused bytes. It counts the buffers that it frees as
// garbage, so that the process can return them to the system.
package buffer
