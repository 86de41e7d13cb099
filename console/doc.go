// Package console owns what keyway says about a running pool over Redis's protocol: KEYWAY STATUS and its
// like.
package console
