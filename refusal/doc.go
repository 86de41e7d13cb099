// Package refusal owns what the errors of nodes mean: whether a node cannot serve a command that
// another node or a later attempt may serve, where a redirect leads, and what a node has refused
// lately. Whether such an error proves that the node did not execute the command depends on the
// command, so package proxy/engine decides that.
package refusal
