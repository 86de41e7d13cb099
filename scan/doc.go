// Package scan owns walks over the keys of several nodes: the cursors that keyway gives to
// clients that send SCAN, the pages of replies, and the keys of a slot that a walk finds.
package scan
