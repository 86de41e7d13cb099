// Package hotkeys owns what is known of the keys that clients use most: a sample of the commands that nodes
// have answered, the keys that stand out in it, and who uses them.
//
//	replies --> sampler --> window of the last seconds --+--> Part of one thread --> Join --> rows
//	            1 in N        |      window before  -----+
//	                          +-- table by accesses
//	                          +-- table by bytes
//
// A thread has a Tracker. It looks at each access while there are few, and at one in N while there are many, so
// that it costs the same whatever the load is. What it has not looked at counts all the same: an access that was
// looked at stands for N.
package hotkeys
