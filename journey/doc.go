// Package journey owns what is recorded of single commands on their way through keyway: a [Journey] says
// who sent a command, at which nodes it was, and when. A [Sampler] chooses the commands.
//
// A journey has a fixed size and never has the value of a key, an argument or a password. Keys are in it only as
// the [Settings] say.
package journey
