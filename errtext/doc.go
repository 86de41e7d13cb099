// Package errtext owns the texts of errors that clients get from several commands. The
// texts of a single feature stand beside its code. Where Redis has a text for the case,
// keyway uses Redis's to the letter, and the comment names the place in Redis's source.
//
// If a command fails because of its node, the error says which of two classes it is in:
//
//   - Not executed: the node surely did not execute the command. The text begins with
//     CLUSTERDOWN, after which client libraries may retry, or with the node's own BUSY.
//   - Unknown: the node may have executed the command. The text begins with ERR and
//     says so.
//
// It also owns how texts for people show a key: Key.
package errtext
