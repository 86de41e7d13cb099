// Package limiting makes the commands of users wait that have limits: for commands of the same user
// that are under way, and for the user's rate. It counts the clients of these users.
package limiting
