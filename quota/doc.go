// Package quota bounds what the clients of one user use together, on all threads: connections,
// commands under way, and commands and bytes in a second. An [Account] is shared by all threads. A
// [Share] belongs to one of them. It takes from the account many at a time, and gives back at the
// end of each turn what it has not used, so a command costs no atomic operation.
package quota
