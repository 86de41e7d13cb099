// Package console owns what keyway says about a running pool over Redis's protocol: KEYWAY STATUS and its
// like, for clients of keyway and on a port of its own.
package console
