// Package logins owns the accounts of the nodes with which clients have logged in. The clients of one
// account share connections, and nobody else uses these.
package logins
