// Package register alone owns the register: the libraries of functions in which a node says
// which layout is in force. It makes and reads their names and texts, and takes them out of
// replies and dumps that clients get. Package switching writes them.
package register
