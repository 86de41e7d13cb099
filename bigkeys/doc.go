// Package bigkeys owns what is known about large values: which keys have one, which replies announce
// one, and what operators see of them.
package bigkeys
