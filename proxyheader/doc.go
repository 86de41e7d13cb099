// Package proxyheader owns the header of the PROXY protocol, versions 1 and 2: with it a
// balancer says at the start of a connection which client it has accepted. The package
// parses bytes and knows no sockets.
package proxyheader
