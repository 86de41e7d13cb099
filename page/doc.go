// Package page owns what a browser shows of a running keyway: a page of one pool that is whole without
// JavaScript, its style and script, its pictures, and the events that keep it up to date. It reads what others
// know, changes nothing, and escapes all that it shows. Its buttons send requests to the admin address, whose token
// they need.
package page
