// Package bigkeys owns what is known about large values: which keys have one, and which replies announce
// one.
package bigkeys
