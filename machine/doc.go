// Package machine owns what keyway knows about the machine and the control groups that it runs
// in: how much memory and how many processors the process may use, and how much memory it uses. It
// reads files of the kernel and of control groups.
package machine
