// Package reshard alone owns an operator's change of the layout: out of files, and of what the nodes say
// is in force, it makes the changes that are planned, begun, taken back, verified and forgotten. What
// runs from one configuration is package wiring's.
package reshard
