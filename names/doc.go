// Package names owns the names of users who have a prefix: how the keys and channels that such
// a user writes become whole names, as the nodes have them, and how whole names in replies
// become the user's own again. Its table says for each command where its names are. A command
// that the table does not know is refused, and never sent as it is.
package names
