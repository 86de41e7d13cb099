// Package packages builds the files of a release, and installs its packages on a copy of this
// machine.
package packages
